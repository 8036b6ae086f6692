"""Tasks: a scene in, questions with answers and reasoning out."""

from sv_jax.tasks.ask import TASKS, ask
from sv_jax.tasks.describe import describe
from sv_jax.tasks.qa import QA

__all__ = ["QA", "TASKS", "ask", "describe"]
