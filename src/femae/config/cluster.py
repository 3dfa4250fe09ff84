"""`--cluster`: the machines that do the work."""

from typing import Annotated

from pydantic import AfterValidator, Field

from femae.cluster import check_address

__all__ = ["ClusterOption"]


def _checked(address: str | None) -> str | None:
    return address and check_address(address)


ClusterOption = Annotated[
    str | None,
    AfterValidator(_checked),
    Field(description="do it on a Ray cluster: local (this machine's cores), auto, HOST:PORT or ray://HOST:PORT"),
]
