# SPDX-License-Identifier: MIT
"""Search for wirings and parameters: strategies, workers, and a log from which a search continues."""

from freewire.search.evolution import Evolution as Evolution
from freewire.search.log import Recorded as Recorded
from freewire.search.log import read_log as read_log
from freewire.search.neat import NEAT as NEAT
from freewire.search.neat import Genome as Genome
from freewire.search.optuna_strategy import Optuna as Optuna
from freewire.search.random_search import RandomSearch as RandomSearch
from freewire.search.result import Result as Result
from freewire.search.runner import run as run
from freewire.search.search_comparison import SearchComparison as SearchComparison
from freewire.search.search_comparison import compare as compare
from freewire.search.search_report import SearchReport as SearchReport
from freewire.search.search_report import report as report
from freewire.search.seeds import trial_seed as trial_seed
from freewire.search.strategy import Pruned as Pruned
from freewire.search.strategy import Strategy as Strategy

__all__ = [
    "NEAT",
    "Evolution",
    "Genome",
    "Optuna",
    "Pruned",
    "RandomSearch",
    "Recorded",
    "Result",
    "SearchComparison",
    "SearchReport",
    "Strategy",
    "compare",
    "read_log",
    "report",
    "run",
    "trial_seed",
]
