from forecaster.timellm.config import PointConfig as PointConfig
from forecaster.timellm.config import PointShape as PointShape
from forecaster.timellm.model import PointModel as PointModel
from forecaster.timellm.model import TimeLLM as TimeLLM
from forecaster.timellm.model import build_model as build_model
from forecaster.timellm.model import load_point_model as load_point_model
from forecaster.timellm.offline import write_random_backbone as write_random_backbone
from forecaster.timellm.pipeline import TimeLLMForecaster as TimeLLMForecaster
