"""What is to be extracted: a folder, one media file, or a table of files."""

from mmf.extract.manifest.manifest import Input, Manifest, read_manifest

__all__ = ["Input", "Manifest", "read_manifest"]
