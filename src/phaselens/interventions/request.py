"""What a study asks of a running model that is changed: the table `interventions` of its declaration."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Asked(BaseModel):
    """Sizes of the experiments `perturbation`, `growth`, `causal` and `control`.

    `prompts`, `tokens`, `strengths`, `draws` and `site` are of signatures; the first two are of growth too, which
    follows `tangents` directions; `subspaces` is how many random ones of each kind stand beside a probe's; `questions`
    are those of the control arms (X2 needs 700) and `action` what the monitor does; `directions` random ones are
    steered along beside the calm one, on `steered` of the questions (X1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: Annotated[int, Field(ge=4)] = 32
    tokens: Annotated[int, Field(ge=2)] = 24
    strengths: tuple[Annotated[float, Field(ge=0)], ...] = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
    draws: Annotated[int, Field(ge=2, multiple_of=2)] = 16
    tangents: Annotated[int, Field(ge=1)] = 4
    site: Literal["resid_post", "embedding", "attn_out", "mlp_out"] = "resid_post"
    subspaces: Annotated[int, Field(ge=2)] = 40
    questions: Annotated[int, Field(ge=4)] = 720
    answer_tokens: Annotated[int, Field(ge=4)] = 16
    action: Literal["seed", "temperature", "steer"] = "seed"
    directions: Annotated[int, Field(ge=2)] = 24
    steered: Annotated[int, Field(ge=2)] = 96

    @model_validator(mode="after")
    def _some_noise(self) -> "Asked":
        if not any(self.strengths):
            raise ValueError("strengths: one of them must be above 0")
        return self
