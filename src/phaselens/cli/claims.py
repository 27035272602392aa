"""`phaselens claims list` and `show`: what is registered before the data."""

from typing import Annotated

import typer

from phaselens.cli.run import AsJson
from phaselens.cli.show import print_json, print_table

app = typer.Typer(help="What is registered before the data, and by which rule it is judged.", no_args_is_help=True)


@app.command("list")
def list_claims(as_json: AsJson = False) -> None:
    """Print every registered claim."""
    from phaselens.claims import REGISTER, lock

    if as_json:
        print_json([claim.model_dump() for claim in REGISTER])
        return
    print_table(("id", "seed", "claim", "published"), [(c.id, c.seed_doc, c.statement, c.published) for c in REGISTER])
    print(f"lock of all: {lock(REGISTER)[:16]}   (phaselens claims show ID prints the rule)")


@app.command("show")
def show_claim(
    name: Annotated[str, typer.Argument(metavar="ID", help="Name of a claim, e.g. G2.")], as_json: AsJson = False
) -> None:
    """Print one claim with its rule, controls and nulls."""
    from phaselens.claims import claims_by_id

    (claim,) = claims_by_id([name])
    if as_json:
        print_json(claim.model_dump())
        return
    print(f"{claim.id}  {claim.statement}\n")
    for field in ("statistic", "supported", "rejected", "controls", "nulls", "published"):
        value = getattr(claim, field)
        print(f"{field:10} {'; '.join(value) if isinstance(value, tuple) else value}")
