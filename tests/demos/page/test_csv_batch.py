"""Files of texts: what is read, what is written, and how a busy server is waited for."""

import asyncio
import csv
import json
from pathlib import Path

import httpx
import pytest

from demos.page import csv_batch
from demos.page.csv_batch import label_rows, read_csv, write_csv
from demos.page.server_client import PageError, ServerClient


def labels(request: httpx.Request) -> httpx.Response:
    body = json.loads(request.content)
    scores = [
        [{"label": text.upper(), "score": 0.75, "adapter": adapter, "sha256": "a"}]
        for (text,), adapter in zip(body["inputs"], body["adapter"], strict=True)
    ]
    return httpx.Response(200, json=scores)


def test_a_file_keeps_its_columns_and_a_busy_server_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.csv"
    file.write_text('\ufeffid,Text,tone\n1,"a, b",x\n2,c,y\n3,d,z\n', encoding="utf-8")
    content = read_csv(file)
    assert content.text_column == "Text"
    sizes: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sizes.append(len(json.loads(request.content)["inputs"]))
        return httpx.Response(429, json={}, headers={"retry-after": "0"}) if len(sizes) == 2 else labels(request)

    monkeypatch.setattr(csv_batch, "MAX_WAIT", 0.0)
    client = ServerClient("http://server", transport=httpx.MockTransport(handler))

    async def all_rows() -> list[csv_batch.LabelScores]:
        texts = [row["Text"] for row in content.rows]
        return [one async for piece in label_rows(client, texts, ["tone", "mood"], max_texts=4) for one in piece]

    results = asyncio.run(all_rows())
    assert sizes == [4, 2, 2]
    write_csv(tmp_path / "out.csv", content, ["tone", "mood"], results)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["id", "Text", "tone", "tone_predicted", "tone_score", "mood", "mood_score"]
    assert rows[1] == ["1", "a, b", "x", "A, B", "0.750000", "A, B", "0.750000"]
    assert len(rows) == 4


@pytest.mark.parametrize("content", [b"", b"text\n", b"a,,b\n1,2,3\n", "text\nsch\xf6n\n".encode("latin-1")])
def test_what_is_no_table_of_texts_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(PageError, match=r"^a\.csv (needs a first line|is not in UTF-8)"):
        read_csv(tmp_path / "a.csv")
