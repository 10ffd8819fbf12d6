from candlecast.backtests import Backtest as Backtest
from candlecast.backtests import backtest as backtest
from candlecast.errors import CandlecastError as CandlecastError
from candlecast.forecasting import forecast as forecast
from candlecast.forecasts import Forecasts as Forecasts
from candlecast.models import Kronos as Kronos
from candlecast.models import KronosPredictor as KronosPredictor
from candlecast.models import KronosTokenizer as KronosTokenizer
from candlecast.store import Store as Store
from candlecast.times import future_timestamps as future_timestamps

__version__: str
