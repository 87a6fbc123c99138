"""How rules are named."""

import pytest

from ostrakon.common.aggregation import rule
from ostrakon.common.errors import OstrakonError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Mean2P", "Mean2P"),
        (" NNM + CWTM ", "NNM+CWTM"),
        ("Bucketing(2)+Krum", "Bucketing(s=2)+Krum"),
        ("Bucketing+Krum", "Bucketing+Krum"),
        ("ARC+NNM+Multi-Krum(3)", "ARC+NNM+Multi-Krum(m=3)"),
        ("NNM+Mean2P", "NNM+Mean2P"),
        ("GM(3, eps=1e-3)", "GM(iterations=3, eps=0.001)"),
        ("Clipping(tau=1e+3)+Avg", "Clipping(tau=1000.0)+Avg"),
        ("TwoPhase(Mean1P, Avg)", "TwoPhase(Mean1P, Avg)"),
        ("TwoPhase(inner=NNM+Multi-Krum(2), outer=Avg)", "TwoPhase(NNM+Multi-Krum(m=2), Avg)"),
        ("NNM+TwoPhase(Mean1P, Bucketing(2)+CWM)", "NNM+TwoPhase(Mean1P, Bucketing(s=2)+CWM)"),
    ],
)
def test_rules_are_named_with_parameters_and_pre_aggregations(text: str, name: str) -> None:
    assert rule(text).name == name
    assert rule(name).name == name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mean2p", r"unknown rule 'mean2p'; did you mean Mean2P\? \(known: Avg, GM, "),
        ("NMN+Krum", r"unknown pre-aggregation 'NMN'; did you mean NNM\? \(known: NNM, Bucketing, Clipping, ARC\)"),
        ("NNM", r"NNM is a pre-aggregation: write the pre-aggregations first and the rule last, as in NNM\+CWTM"),
        ("Krum+NNM", r"NNM is a pre-aggregation: write"),
        ("Krum+Avg", r"Krum is a rule: write the pre-aggregations first and the rule last, as in NNM\+CWTM"),
        ("", r"rule '': '' cannot be read: write a name, or a name with parameters as in GM\(iterations=3\)"),
        ("NNM+", r"rule 'NNM\+': '' cannot be read"),
        ("Bucketing(2) Krum", r"rule 'Bucketing\(2\) Krum': 'Bucketing\(2\) Krum' cannot be read"),
        ("MoNNA", r"rule MoNNA needs pivot, as in MoNNA\(9\)"),
        ("MoNNA(-1)", r"MoNNA\(pivot=-1\): places on the roster are numbered from 0"),
        ("NNM+GM(eps=1, eps=2)", r"rule 'NNM\+GM.*': 'GM\(eps=1, eps=2\)' gives eps twice: give it once"),
        ("NNM+Krum)", "cannot be read"),
        ("Krum(", "cannot be read"),
        ("Mean2P(size=3)", "rule Mean2P takes no parameters, but size came: write Mean2P"),
        ("GM(1, 2, 3)", "rule GM takes iterations, eps, but 3 values came"),
        ("GM(steps=1)", r"rule GM has no parameter steps \(known: iterations, eps\)"),
        ("GM(1, iterations=2)", "rule GM is given iterations twice: give it once"),
        ("GM(iterations=1.5)", r"rule GM cannot use iterations = 1.5: give a whole number"),
        ("GM(iterations=True)", r"rule GM cannot use iterations = True: give a number"),
        ("GM(iterations=0)", r"GM\(iterations=0\): iterations must be positive"),
        ("Clipping(1e999)+Avg", "tau must be positive"),
        ("Multi-Krum(m=Avg)", "rule Multi-Krum cannot use m = Avg: give a number"),
        ("TwoPhase", r"rule TwoPhase needs inner, outer, as in TwoPhase\(Mean1P, Avg\)"),
        ("TwoPhase(Mean1P)", r"rule TwoPhase needs inner, outer"),
        ("TwoPhase(Mean2P, Avg)", r"Mean2P proposes two candidates itself; there are never more than two"),
        ("TwoPhase(Mean1P, TwoPhase(Avg, Avg))", r"there are never more than two"),
        ("NNM+" * 900 + "Avg", "a rule of 3603 characters cannot be read: 200 are enough for any"),
        ("Bucketing(2, seed=0x" + "f" * 60 + ")+Avg", "pre-aggregation Bucketing cannot use so large a seed"),
        ("GM(eps=" + "9" * 60 + ")", "rule GM cannot use so large a eps: give at most 9223372036854775807"),
        ("TwoPhase(Mean1P, 3)", "'3' cannot be read"),
    ],
)
def test_anything_else_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(OstrakonError, match=sentence):
        rule(text)
