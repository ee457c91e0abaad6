"""English words for the templates of minimal pairs, of which a corpus uses those that it has.

Nouns are countable only, and none is of a group of people, which may take a plural verb. Adjectives
may stand before a noun or after a verb. Verbs take an object, and their past participle is not the
base form. A form that does not follow the rule stands behind a colon.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

NOUNS = """
address album application area argument article artist attribute author award battle bird block boat
book boy bridge brother buffer building button call car career case castle chapter character
child:children church city class college command component connection constant contract copy country
county course court cup date day decade descriptor device dictionary directory document dog door
element encoding episode error event exception expression father field file film flag flower forest
format frame friend function game girl goal handler hill horse hospital hotel hour house husband
identifier image index instance interface island issue item iterator job key keyword king lake law
leader letter library line list loop machine man:men manager map mark market match meeting member
message method minister minute mode model module month mother mountain movement museum name nation
node novel number object officer operation operator option package page painting parameter park
parser part path pattern picture place plan planet player playlist poem point pointer port position
president prince prize problem process product program project property queen question queue range
reader reason record region request result river road role room row rule scene school script season
section sequence server session set shape ship sign signal singer sister site sketch socket soldier
song source specialist square stack stadium star state statement station step stone store storm
story stream street string student subclass symbol system table tag target task teacher template
temple tensor test theory thread token tool town train trainer tree tuple tutorial type uncle unit
university user value variable vehicle version village voice volume wall warning week widget
wife:wives window winner word worker wrapper writer year zone
"""
ADJECTIVES = """
active ancient available bad beautiful big black blue broken busy clean clear closed cold common
complete complex correct dark dead different easy empty equal exact fair familiar famous fast final
fine first free full general good great green happy hard heavy high hot identical important invalid
large late local long modern mutable narrow necessary negative new normal old open optional original
perfect poor popular positive possible public rare ready real red rich right sad safe serious sharp
short similar simple slow small smooth special strong successful tall true unique unknown unusual
useful valid visible warm weak white wide wrong young
"""
VERBS = """
accept add admire allow answer apply ask attack call carry change check choose:chosen claim close
compare compute contain control:controlled convert copy cover create define delete describe destroy
discover display do:done draw:drawn drive:driven enter execute expect explain extend fill find:found
follow forget:forgotten give:given handle help hide:hidden hold:held ignore implement import improve
include increase join keep:kept kill know:known lead:led leave:left like load lose:lost love
make:made match meet:met modify move name need notice obtain open order pass perform place play
prevent print process produce provide publish raise reach receive record reduce remember remove
replace represent require return save see:seen select sell:sold send:sent serve show:shown sign
specify start stop:stopped store strike:struck support take:taken teach:taught tell:told test
throw:thrown understand:understood update use visit want watch win:won write:written
"""
_VOWEL = re.compile(r"(?!uni|us[eu])[aeiou]|hour")


@dataclass(frozen=True)
class Words:
    """Words by class.

    Attributes:
        nouns: singular and plural.
        verbs: third person singular, base form and past participle, which is not the base form.
        every: those words and all others that the corpus has often enough.
    """

    nouns: list[tuple[str, str]]
    adjectives: list[str]
    verbs: list[tuple[str, str, str]]
    every: Set[str]

    @classmethod
    def among(cls, known: Set[str]) -> Words:
        """Return the words of the lexicon all forms of which are known."""
        nouns = [(one, other or _with_s(one)) for one, other in _entries(NOUNS)]
        verbs = [(_with_s(one), one, other or _with_ed(one)) for one, other in _entries(VERBS)]
        return cls(
            [each for each in nouns if known >= {*each}],
            [each for each in ADJECTIVES.split() if each in known],
            [each for each in verbs if known >= {*each}],
            known,
        )


def takes_an(word: str) -> bool:
    """Whether the article before a word of the lexicon is "an"."""
    return bool(_VOWEL.match(word))


def _entries(words: str) -> list[tuple[str, str]]:
    return [(one, other) for one, _, other in (word.partition(":") for word in words.split())]


def _with_s(word: str) -> str:
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh|o)$", word) else "s")


def _with_ed(word: str) -> str:
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ied"
    return word + ("d" if word.endswith("e") else "ed")
