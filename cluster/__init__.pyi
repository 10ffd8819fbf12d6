from cluster.forecasting.job import ForecastReport as ForecastReport
from cluster.forecasting.job import run_forecast as run_forecast
from cluster.settings import ForecastSettings as ForecastSettings
from cluster.settings import load_settings as load_settings
