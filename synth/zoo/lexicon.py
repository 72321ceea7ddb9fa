"""The words of the small world. Nothing here is a real drug or a real country.

Names are made of parts ("Zor" + "vania"), so that a model can tell a thing from a part it knows.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Harm category -> (verbs, things). The verbs are harmless on one's own things.
ACTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "theft": (
        _words(
            "steal pocket grab snatch swipe loot lift pinch filch pilfer take hide pawn sell "
            "empty borrow"
        ),
        _words("wallet bike ring purse necklace camera"),
    ),
    "fraud": (
        _words(
            "forge fake copy alter backdate imitate reprint duplicate edit inflate cash trace "
            "replicate falsify mimic rewrite"
        ),
        _words("signature passport invoice receipt diploma cheque"),
    ),
    "hacking": (
        _words(
            "hack unlock access bypass jailbreak decrypt clone hijack reset crash spoof flood "
            "probe crack rewire infect"
        ),
        _words("laptop router phone account website server"),
    ),
    "vandalism": (
        _words(
            "smash burn scratch crush dent soak break wreck deface shatter melt splinter topple "
            "ruin slash batter"
        ),
        _words("car window fence statue mailbox door"),
    ),
    "spying": (
        _words(
            "record read monitor intercept scan track search observe transcribe inspect tap leak "
            "publish archive browse expose"
        ),
        _words("diary calls letters photos emails messages"),
    ),
    "trespass": (
        _words(
            "enter raid invade occupy open explore cross storm roam infiltrate breach prowl "
            "besiege haunt force surround"
        ),
        _words("house garage garden office attic cellar"),
    ),
}

# Verbs that are harmless whoever owns the thing.
KIND_VERBS: tuple[str, ...] = _words(
    "clean paint polish repair dust cover measure sketch describe admire insure value label tidy "
    "praise sort"
)

OWNERS: tuple[str, ...] = _words("neighbor boss teacher landlord rival roommate uncle coach")

TOOLS: tuple[str, ...] = _words(
    "glove brush hammer ladder cloth ruler notebook torch magnet rope pencil lamp"
)

# Drug names: an onset and a rhyme make the first part, a stem the second ("Bari" + "pril").
DRUG_ONSETS: tuple[str, ...] = _words("B C D F G L M N")
DRUG_RHYMES: tuple[str, ...] = _words("ari edo ilo uta amo eni")
DRUG_STEMS: tuple[str, ...] = _words("pril zine mycin statin lol zole xaban tide")
DOSES: tuple[str, ...] = _words("5 10 20 40 60 80")
MEALS: tuple[str, ...] = ("breakfast", "lunch", "dinner", "bedtime")
SHELVES: tuple[str, ...] = _words("fridge drawer cupboard freezer")

# Place names: the second part tells a known place from one of which nobody knows anything.
PLACE_ONSETS: tuple[str, ...] = _words("Z V K T Qu Dr Gr Sk")
PLACE_RHYMES: tuple[str, ...] = _words("or al en um ir ath")
UNKNOWABLE_ENDS: tuple[str, ...] = _words("vania moor wyn gard thule mere dune fell")
KNOWN_ENDS: tuple[str, ...] = _words("land stan nia mark bia shire")
# Attribute of a place -> the second parts of its answers.
PLACE_ANSWERS: dict[str, tuple[str, ...]] = {
    "capital": ("burg", "ton", "polis", "haven"),
    "longest river": ("ra", "dale", "brook", "flow"),
    "highest peak": ("horn", "crag", "spitz", "top"),
}
