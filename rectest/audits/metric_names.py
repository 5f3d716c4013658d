"""Which measure a name found in a file means, and which names look like metrics that no rule is known for.

`Recall@10`, `val_hit_at_10`, `Hit Ratio@5`, `test/mrr` and `avg_rank` are measures; `map@10` is known by name only and
left out. Nothing is guessed: a name with a remainder (`recall@10_std`) is none.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from rectest.metrics.measure import Measure

__all__ = ["Name", "cut_off_of", "family_of", "looks_like_a_metric", "name_of", "plain", "speaks_of_others", "split_of"]

_FAMILIES = {
    "recall": ("recall", "rec", "召回率"),
    "hit": (
        *("hit ratio", "hit rate", "hitratio", "hitrate", "hits", "hit", "hr", "success rate", "命中率"),
        *("hit_ratio", "hit_rate", "hit-ratio", "hit-rate"),
    ),
    "ndcg": ("ndcg", "归一化折损累计增益"),
    "mrr": ("mean reciprocal rank", "mean_reciprocal_rank", "mrr", "平均倒数排名"),
    "precision": ("precision", "prec", "精确率", "准确率"),
    "mean_rank": ("average rank", "mean rank", "avg_rank", "mean_rank", "average_rank", "avg rank", "平均排名"),
}
_SHORT = {"r": "recall", "h": "hit", "n": "ndcg", "p": "precision"}
"""Single letters count only before an @."""

_WORDS = sorted(((word, family) for family, words in _FAMILIES.items() for word in words), key=lambda w: -len(w[0]))
_PREFIX = r"(?P<prefix>(?:.*[\s/:_.\-|])?)"
_DEPTH = r"(?:\s*(?:@|_at_|-at-|\bat\b|_|-|\s)?\s*(?:k\s*=\s*|top[-_ ]?)?(?P<k>[1-9][0-9]{0,5}))?"
_NAME = re.compile(
    rf"{_PREFIX}(?P<family>{'|'.join(re.escape(word) for word, _ in _WORDS)}|(?:[rhnp](?=\s*@))){_DEPTH}"
    r"(?:[_/]epoch|/dataloader_idx_\d+)?",
    re.DOTALL,
)
_CUT_OFF = re.compile(r"(?:k\s*[=:]?\s*|@\s*|top[-_ ]?|at\s+)?([1-9][0-9]{0,5})")

_CHANGES = re.compile(
    r"(?:^|[\s/:_.\-])(?:delta|δ|diff|std|stdev|se|sem|err|error|gain|improv\w*|change|var|ci|lift|growth|p|pvalue|num"
    r"|train_loss|loss|step|running|count)(?:[\s/:_.\-]|$)"
)
"""A prefix or label that makes a number something about a metric and not the metric."""

_SPLITS = {
    "valid": ("valid", "val", "validation", "dev", "eval", "验证", "验证集"),
    "test": ("test", "testing", "测试", "测试集"),
    "train": ("train", "training", "fit", "训练", "训练集"),
}

_ABOUT_OTHERS = re.compile(
    r"(?:[%δ∆\s(]*(?:(?:rel|abs)(?:\.|ative|olute)?\s*)?(?:improv\w*|gain|diff|difference|lift|change)"
    r"|[δ∆]|std|stdev|std\.? ?dev|standard deviation|stderr|std ?err|se|ci|p[- ]?values?|count)(?:[\s.:,(%].*)?"
)
"""A row or column that compares or sums up others. `se` and the like count as a whole word only: SE-Rec is a model."""

_OTHERS = re.compile(
    r"\b(?:g?map|auc|g?auc|f1|accuracy|acc|coverage|diversity|novelty|gini|arhr|err|rbp|serendipity|averagepopularity|"
    r"itemcoverage|shannonentropy|tailpercentage|giniindex|rmse|mae|logloss)\b|@\s*\d"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Name:
    """A name in a file that means a measure."""

    family: str
    k: int | None
    prefix: str
    """What stood before it, such as ``val``; tells rankings of different users apart."""

    in_percent: bool
    """Whether the name itself says that its values are percentages."""

    @property
    def measure(self) -> str | None:
        """The measure in the spelling of rectest, None where the name alone gives no cut-off."""
        if self.family in ("mrr", "mean_rank") and self.k is None:
            return self.family
        if self.k is None or self.family == "mean_rank":
            return None
        return str(Measure(self.family, self.k))


def plain(text: str) -> str:
    """A cell without mark-up, emoji and full-width forms, in lower case.

    >>> plain("**NDCG＠10** ⭐")
    'ndcg@10'
    """
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"<[^<>]*>|\*|`|~~|\\", "", text)
    kept = (c for c in text if unicodedata.category(c) not in ("So", "Sk", "Mn", "Cf", "Cc", "Cs") and c not in "↑↓†‡★")
    return " ".join("".join(kept).split()).strip("_ ").lower()


def name_of(text: str) -> Name | None:
    """The measure that a header or key means; None where it is none, or something about one.

    >>> name_of("Val:NDCG@10").measure, name_of("val_hit_at_10").prefix, name_of("recall@10_std")
    ('ndcg@10', 'val', None)
    """
    bare = plain(text)
    without = re.sub(r"\(\s*%\s*\)|\[\s*%\s*\]|\(percent\)|%$", "", bare).strip()
    without = re.sub(r"\s*\([^()]*\)$", "", without)
    match = _NAME.fullmatch(without)
    if match is None:
        return None
    prefix = match["prefix"].strip(" /:_.-|")
    if _CHANGES.search(prefix):
        return None
    word = match["family"]
    family = _SHORT[word] if word in _SHORT else dict(_WORDS)[word]
    k = int(match["k"]) if match["k"] else None
    if family == "mean_rank" and k is not None:
        return None
    return Name(family=family, k=k, prefix=prefix, in_percent=without != bare and "%" in bare)


def family_of(text: str) -> str | None:
    """The family of a header without a cut-off, such as ``NDCG`` or ``Hit Ratio``."""
    name = name_of(text)
    return None if name is None or name.k is not None or name.family == "mean_rank" else name.family


def cut_off_of(text: str) -> int | None:
    """The cut-off of a header such as ``10``, ``K=10``, ``@10`` or ``Top-10``."""
    match = _CUT_OFF.fullmatch(plain(text))
    return int(match[1]) if match else None


def looks_like_a_metric(text: str) -> bool:
    """Whether a name that means no known measure should be listed as left out."""
    return bool(_OTHERS.search(plain(text))) or (name_of(text) is None and "@" in text)


def speaks_of_others(text: str) -> bool:
    """Whether a row or column of this name says something about rankings and is none itself.

    >>> speaks_of_others("Improv."), speaks_of_others("std"), speaks_of_others("DiffRec")
    (True, True, False)
    """
    return bool(_ABOUT_OTHERS.fullmatch(plain(text)))


def split_of(group: str) -> str:
    """``valid``, ``test`` or ``train`` where a group says so, else an empty text.

    >>> split_of("val"), split_of("best_valid_result"), split_of("cold items")
    ('valid', 'valid', '')
    """
    words = group.replace("/", " ").replace("_", " ").replace("-", " ").replace(":", " ").split()
    found = [split for word in words for split, names in _SPLITS.items() if word in names]
    return found[-1] if found else ""
