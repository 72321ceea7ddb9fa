"""The class of a drug by the stem of its generic name.

Stems are those of the World Health Organization's list of international nonproprietary names: what
a model learns of some names, it can tell of others.
"""

from __future__ import annotations

import re

# class -> pattern of the names that belong to it
_STEMS = {
    "ACE inhibitor": r"pril$",
    "DPP-4 inhibitor": r"gliptin$",
    "GnRH agonist": r"relin$",
    "H2 blocker": r"tidine$",
    "HIV protease inhibitor": r"navir$",
    "NSAID": r"(profen|oxicam|fenac|olac)$",
    "alkylating agent": r"(fosfamide|phosphamide)$",
    "alpha blocker": r"azosin$",
    "alpha-2 agonist": r"(onidine|zanidine)$",
    "aminoglycoside antibiotic": r"(kacin|tamicin)$",
    "angiotensin receptor blocker": r"sartan$",
    "antifungal": r"conazole$",
    "antihistamine": r"(ratadine|heptadine|fenadine)$",
    "antimalarial": r"quine$",
    "antiplatelet drug": r"grel",
    "aromatase inhibitor": r"trozole$",
    "benzodiazepine": r"(azepam|azolam)$",
    "beta agonist": r"(meterol|moterol|butamol)$",
    "beta blocker": r"olol$",
    "beta-lactamase inhibitor": r"bactam$",
    "bisphosphonate": r"dronate$",
    "calcium channel blocker": r"dipine$",
    "carbapenem antibiotic": r"penem$",
    "carbonic anhydrase inhibitor": r"zolamide$",
    "cephalosporin antibiotic": r"^(cef|ceph)",
    "cholinesterase inhibitor": r"stigmine$",
    "corticosteroid": r"(^pred|pred|cortisone|methasone|sonide)",
    "enzyme": r"(ase)$",
    "factor Xa inhibitor": r"xaban$",
    "fluoroquinolone antibiotic": r"floxacin$",
    "inhaled anaesthetic": r"flurane$",
    "kinase inhibitor": r"tinib$",
    "leukotriene receptor antagonist": r"lukast$",
    "local anaesthetic": r"caine$",
    "macrolide antibiotic": r"thromycin$",
    "monoclonal antibody": r"mab$",
    "muscle relaxant": r"(curonium|curium)$",
    "opioid": r"(fentanil|fentanyl|codone|morphone)$",
    "opioid antagonist": r"^nal",
    "penicillin antibiotic": r"cillin$",
    "phenothiazine antipsychotic": r"(promazine|perazine|phenazine)$",
    "platinum chemotherapy drug": r"platin$",
    "prostaglandin": r"prost",
    "proton pump inhibitor": r"prazole$",
    "retinoid": r"retin",
    "statin": r"vastatin$",
    "sulfonamide antibiotic": r"^sulfa(?!sal)",
    "taxane": r"taxel$",
    "tetracycline antibiotic": r"cycline$",
    "tricyclic antidepressant": r"(pramine|triptyline)$",
    "triptan": r"triptan$",
}
_CLASSES = {name: re.compile(pattern) for name, pattern in _STEMS.items()}
# Names with the letters of a stem that they do not belong to.
_OTHERS = frozenset({"aripiprazole", "secretin", "stanozolol"})


def drug_class(name: str) -> str | None:
    """The class of a generic name in lower case; None where no stem of the list tells it."""
    if name in _OTHERS:
        return None
    found = [kind for kind, pattern in _CLASSES.items() if pattern.search(name)]
    return found[0] if len(found) == 1 else None
