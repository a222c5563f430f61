"""What the systems have in common that `rival-load` loads."""

from systems.base import System, like_bench, like_probe

LOAD = "rival-load"


class Rival(System):
    """A system that `rival-load` speaks to: the load of `loggos bench`, in its report's words."""

    built_by = ("rivals",)

    @classmethod
    def missing(cls, binary):
        """The load generator; adapters add what they need themselves."""
        load = binary.with_name(LOAD)
        if load.is_file():
            return None
        return f"{load} does not exist: build it with `scripts/build.sh rivals`"

    def spoken(self):
        """What `rival-load` calls the system."""
        return self.name

    def load_command(self, load, host, label, rate, seed, trace):
        """`rival-load`."""
        return [
            str(self.binary.with_name(LOAD)), self.spoken(), "put",
            "--nodes", self.client_addresses(self.client_port),
            *like_bench(self, load, label, rate, seed, trace),
        ]  # fmt: skip

    def probe_command(self, load, host, label, node):
        """`rival-load`."""
        return [
            str(self.binary.with_name(LOAD)), self.spoken(), "put",
            "--nodes", self.client_addresses(self.client_port, [node]),
            *like_probe(self, load, label, node),
        ]  # fmt: skip
