"""Configurations of labelled tasks, and files as GLUE has them."""

from __future__ import annotations

from pathlib import Path

import pytest

# The first lines of GLUE's files: names of columns, order and marks as they are there, texts anew.
# A quotation mark may open a field and never close.
GLUE_FILES = {
    "CoLA/train.tsv": 'gj04\t1\t\tShe said "go.\ngj04\t0\t*\t"Went they home.\n',
    "CoLA/dev.tsv": "gj04\t1\t\tThey went.\n",
    "CoLA/test.tsv": 'index\tsentence\n0\tBill left.\n1\tLeft "Bill.\n',
    "SST-2/train.tsv": 'sentence\tlabel\na " fine " film \t1\nno " fun \t0\n',
    "SST-2/dev.tsv": "sentence\tlabel\ndull .\t0\n",
    "SST-2/test.tsv": "index\tsentence\n0\tso so .\n",
    "MRPC/train.tsv": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    '1\t70\t72\tHe said , " yes " .\t" Yes , " he said .\n0\t1\t2\tA " b\tC\n',
    "MRPC/dev.tsv": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t3\t4\tA .\tB .\n",
    "MRPC/test.tsv": "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t5\t6\tD .\tE .\n",
    "QQP/train.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    "1\t2\t3\tWhat is it?\tWhat's that?\t1\n4\t5\t6\tcut in two\n7\t8\t9\tWho?\tWhy?\t0\n",
    "QQP/dev.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tA?\tB?\t0\n",
    "QQP/test.tsv": "id\tquestion1\tquestion2\n0\tA?\tB?\n",
    "STS-B/train.tsv": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\t"
    "sentence2\tscore\n0\tg\tf\t2012\t1\tn\tn\tA plane.\tA jet.\t5.000\n"
    "1\tg\tf\t2012\t2\tn\tn\tA cat.\tA jet.\t0.500\n",
    "STS-B/dev.tsv": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\t"
    "sentence2\tscore\n0\tg\tf\t2012\t1\tn\tn\tA.\tB.\t2.25\n",
    "STS-B/test.tsv": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\t"
    "sentence2\n0\tg\tf\t2012\t1\tn\tn\tA.\tB.\n",
    "MNLI/train.tsv": "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\t"
    "sentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\t"
    "gold_label\n0\tp\tp\tg\t(\t(\t(\t(\tIt rains.\tIt is wet.\tneutral\tentailment\n"
    "1\tp\tp\tg\t(\t(\t(\t(\tIt rains.\tIt is dry.\tneutral\tcontradiction\n",
    "MNLI/dev_matched.tsv": "index\tsentence1\tsentence2\tlabel1\tlabel2\tgold_label\n"
    "0\tA.\tB.\tneutral\tneutral\tneutral\n",
    "MNLI/dev_mismatched.tsv": "index\tsentence1\tsentence2\tlabel1\tlabel2\tgold_label\n"
    "0\tC.\tD.\tneutral\tneutral\tentailment\n1\tE.\tF.\tneutral\tneutral\tneutral\n",
    "MNLI/test_matched.tsv": "index\tsentence1\tsentence2\n0\tA.\tB.\n",
    "MNLI/test_mismatched.tsv": "index\tsentence1\tsentence2\n0\tA.\tB.\n1\tC.\tD.\n",
    "QNLI/train.tsv": 'index\tquestion\tsentence\tlabel\n0\tWho?\tHe " did.\tentailment\n'
    "1\tWhy?\tIt rained.\tnot_entailment\n",
    "QNLI/dev.tsv": "index\tquestion\tsentence\tlabel\n0\tHow?\tSo.\tnot_entailment\n",
    "QNLI/test.tsv": "index\tquestion\tsentence\n0\tHow?\tSo.\n",
    "RTE/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tnot_entailment\n"
    "1\tC.\tD.\tentailment\n",
    "RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tE.\tF.\tentailment\n",
    "RTE/test.tsv": "index\tsentence1\tsentence2\n0\tG.\tH.\n",
    "WNLI/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\t1\n1\tC.\tD.\t0\n",
    "WNLI/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tE.\tF.\t0\n",
    "WNLI/test.tsv": "index\tsentence1\tsentence2\n0\tG.\tH.\n",
}


@pytest.fixture(scope="session")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of GLUE's files."""
    folder = tmp_path_factory.mktemp("glue")
    for name, text in GLUE_FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
