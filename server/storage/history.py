"""What the entries of a run add up to, for those who watch it."""

from collections import Counter
from dataclasses import dataclass, field

from ostrakon.server.storage.ledger import Entry


@dataclass
class History:
    """What the entries of a run add up to."""

    wins: Counter[str] = field(default_factory=Counter)
    missing: Counter[tuple[str, str]] = field(default_factory=Counter)  # (member, reason)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)  # (member, reason)

    def add(self, entry: Entry) -> None:
        """Count one more committed round."""
        self.wins[entry.choice] += 1
        self.missing.update(entry.missing.items())
        for member, reasons in entry.refused.items():
            for reason, count in reasons.items():
                self.refused[member, reason] += count
