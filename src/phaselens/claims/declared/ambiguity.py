"""The claims about ambiguous prompts, judged by how many models show an effect."""

from phaselens.claims.record import Claim

YES = "YES: the interval excludes 0 with one sign in >= ceil(6 M / 7) of M models with >= 60 comparable units"
NO = "NO: a TOST at .4 SD of the paired differences passes in >= ceil(6 M / 7) models"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="A1",
        seed_doc=0,
        statement="Ambiguity changes the trajectory.",
        statistic="AFFECTS flag of the run's mean turning_angle at l*, ambiguous less the mean of both disambiguations",
        supported=f"{YES}; p (partial conjunction of Wilcoxon) also after Holm",
        rejected=NO,
        controls=("length match",),
        nulls=("no difference within pairs",),
        published="YES",
    ),
    Claim(
        id="A2",
        seed_doc=0,
        statement="Ambiguity does not raise instability.",
        statistic="INCREASES flag of the run's mean instability at l*, ambiguous less the mean of both disambiguations",
        supported=f"{NO}; p (partial conjunction of TOST) also after Holm",
        rejected=f"{YES}, the sign being an increase",
        controls=("length match",),
        nulls=("a difference of .4 SD",),
        published="NO (rise)",
    ),
    Claim(
        id="A3",
        seed_doc=0,
        statement="Ambiguity delays commitment.",
        statistic="DELAYS flag of the run's mean commit_depth, ambiguous less the mean of both disambiguations",
        supported=f"{YES}, the sign being a delay, also at equal output entropy; p (partial conjunction) after Holm",
        rejected=f"{NO}, or it does so at equal output entropy",
        controls=("length match", "entropy match"),
        nulls=("no difference within pairs",),
        published="PARTIAL",
    ),
)
