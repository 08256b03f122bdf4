"""The features of a store: which there are, how they lie, and how one comes to be."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from mmf import unknown
from mmf.store import layout
from mmf.store.files import Files, current
from mmf.store.log import Log
from mmf.store.spec import FeatureSpec, RecipeMismatch, differing_field
from mmf.store.stored_feature import StoredFeature

logger = logging.getLogger(__name__)


class Features(Mapping[str, StoredFeature]):
    """Stored features by name, as of the last `load`; with `pinned`, what a snapshot names."""

    def __init__(self, files: Files, log: Log, pinned: Mapping[str, Any] | None):
        self._files, self._log, self._pinned = files, log, pinned
        self._stored: dict[str, StoredFeature] = {}
        self.versions: dict[str, dict[str, Any]] = {}  # of each feature, the one that stands
        self.load()

    def __getitem__(self, name: str) -> StoredFeature:
        if name not in self._stored:
            raise unknown("feature", name, self._stored)
        return self._stored[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def load(self) -> None:
        """Take in what others have made since."""
        for name, value in self._standing():
            known = self._stored.get(name)
            if known is None or known.array != value["array"]:
                self._stored[name] = StoredFeature(self._files, self._log, value)
            self.versions[name] = value

    def _standing(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self._pinned is not None:
            yield from self._pinned.items()
            return
        for folder in sorted((self._files.root / "features").iterdir()):
            _, value = current(folder)
            if value is not None:
                yield folder.name, value

    def create(self, spec: FeatureSpec, *, replace: bool) -> bool:
        """Make a feature; False where it is there, by the same recipe.

        With `replace` it begins anew, in an array of its own. Raises RecipeMismatch, which names
        the differing field.
        """
        folder = self._files.root / "features" / spec.name
        number, value = current(folder)
        if value is not None and not replace:
            self.check_recipe(FeatureSpec.from_json(value["spec"]), spec)
            self.load()
            return False
        geometry = layout.Geometry.of(spec)
        if number:
            array = layout.new_array(self._files, spec.name, spec, geometry)
        else:
            array = spec.name
            home = self._files.root / layout.GROUP / array
            home.mkdir(exist_ok=True)
            # one that is there was left by a kill, or is another writer's: it holds no rows yet
            self._files.put(home / "zarr.json", layout.array_json(spec, geometry, 0))
        value = {"spec": spec.to_json(), "array": array, "geometry": vars(geometry)}
        if not self._files.publish(folder, value, after=number):
            return self.create(spec, replace=False)  # another writer was first: the same recipe?
        self.load()
        return True

    def check_recipe(self, old: FeatureSpec, new: FeatureSpec) -> None:
        """Raise RecipeMismatch where two specs of one name are not of one recipe."""
        if old.fingerprint != new.fingerprint:
            raise RecipeMismatch(
                f"store {self._files.name!r} holds feature {new.name!r} made otherwise: "
                f"{differing_field(old.identity, new.identity)}. "
                "Choose another --name, or pass --replace to begin it anew."
            )
        if new.environment and (field := differing_field(old.environment, new.environment)):
            logger.warning("feature %r was begun in another environment: %s.", new.name, field)

    def before(self, name: str) -> list[str]:
        """The arrays that compaction has put the feature's own in the place of, and gc has left."""
        arrays = self.versions[name].get("before", ())
        return [a for a in arrays if (self._files.root / layout.GROUP / a).is_dir()]

    def in_array(self, name: str, array: str) -> StoredFeature:
        """A feature as it lies in another array than its own."""
        return StoredFeature(self._files, self._log, {**self.versions[name], "array": array})
