"""A task: one objective or several, with weights, on the same examples."""

from __future__ import annotations

from dataclasses import dataclass

from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking import STRATEGIES
from bertexp.masking.config import MaskingConfig
from bertexp.objectives import FORMATS, OBJECTIVES
from bertexp.objectives.base import Objective
from bertexp.objectives.config import TaskConfig
from bertexp.objectives.examples import Examples
from bertexp.validation import UserError


@dataclass(frozen=True)
class Task:
    """The objectives of a run.

    Attributes:
        weights: the factor of each mean loss in the total loss, by name.
    """

    objectives: tuple[Objective, ...]
    weights: dict[str, float]

    @classmethod
    def of(
        cls, config: TaskConfig, tokenizer: Tokenizer, masking: MaskingConfig, seed: int
    ) -> Task:
        built = {
            name: OBJECTIVES[name](config, tokenizer, masking, seed) for name in config.objectives
        }
        adapting = [name for _, name in masking.strategies if STRATEGIES[name].adapts]
        if config.masks and adapting and not any(each.follows for each in built.values()):
            raise UserError(
                f"masking.strategy={adapting[0]}: follows how well tokens are predicted, which "
                f"task={config.name} does not measure; choose another strategy or task."
            )
        weights = {
            loss: (config.weights or {}).get(name, 1.0) * weight
            for name, each in built.items()
            for loss, weight in each.losses_weights.items()
        }
        return cls(tuple(built.values()), weights)

    @property
    def heads(self) -> frozenset[str]:
        return frozenset(each.head for each in self.objectives if each.head)

    @property
    def reads_masks(self) -> bool:
        """Whether the model was trained with mask tokens in its input."""
        return any(each.reads_masks for each in self.objectives)

    @property
    def writer(self) -> Objective:
        """The objective that writes the examples; all others mark them."""
        return next((one for one in self.objectives if one.uses_sentences), self.objectives[0])

    def examples(self, tokens: TokenStore) -> Examples:
        """Write examples in the task's format, marked by every objective.

        Raises:
            UserError: there are none in ``tokens``.
        """
        return self.marked(self.written(tokens), tokens)

    def written(self, tokens: TokenStore) -> Examples:
        """Write examples in the task's format; ``tokens`` must have sentences if it needs any."""
        writer = self.writer
        config = writer.config
        if config.format == "blocks":
            return writer.write(tokens)
        return FORMATS[config.format](tokens, config, writer.tokenizer, writer.seed)

    def marked(self, examples: Examples, tokens: TokenStore) -> Examples:
        for objective in self.objectives:
            examples = objective.mark(examples, tokens)
        return examples
