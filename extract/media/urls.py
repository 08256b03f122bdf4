"""Media that are named by a URL: what is one, what is shown of it, what its file is called."""

from urllib.parse import unquote, urlsplit

SCHEMES = ("s3://", "gs://", "az://", "https://", "http://")


def is_far(path: str) -> bool:
    """Whether a path is a URL of media to be fetched."""
    return path.startswith(SCHEMES)


def shown(path: str) -> str:
    """A path as tables show it: of a URL neither the query nor a password, which open doors."""
    if not is_far(path):
        return path
    parts = urlsplit(path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def file_name(url: str) -> str:
    """What the file at a URL is called; '' where it ends with a slash."""
    name = shown(url).rpartition("/")[2]
    return unquote(name) if url.startswith("http") else name
