"""Words for a reader who has chosen no adapter."""

from collections.abc import Callable, Sequence

from demos.page import markup
from demos.page.catalog import Catalog, read_catalog
from demos.page.server_client import PageError, ServerClient


async def ask_to_choose(
    client: ServerClient,
    catalog: Catalog | None,
    names: Callable[[Catalog], Sequence[str]],
    *,
    what: str,
    none: str,
) -> str:
    """Return as HTML why nothing is chosen: the server was not there, has nothing to choose, or it was left out.

    Args:
        client: The server, which is asked if the page has no catalog yet.
        catalog: What the page knows of it.
        names: Choices of a catalog.
        what: Noun of a choice, such as "an adapter".
        none: Sentence for a server without choices.
    """
    if catalog is not None:
        return markup.hint(f"Choose {what} first." if names(catalog) else none)
    try:
        await read_catalog(client)
    except PageError as error:
        return markup.error(error)
    return markup.hint(f"The server answers now: press Look again, then choose {what}.")
