# SPDX-License-Identifier: MIT
"""to_html: what is in the file, read back in Python. What the page does, a browser shows (browser/)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import freewire as fw
from freewire.errors import FreewireError, GraphError, InputError
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from freewire.pictures import layered
from tests.support import ROOT
from tests.support.messages import assert_refused
from tests.support.odd_names import ODD_NAMES
from tests.support.storage import as_nobody


class Parts(HTMLParser):
    """A page's start tags and the text of its elements, as a parser of HTML finds them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open, data))
        self._open = ""

    def all(self, tag: str) -> list[str]:
        """The texts of the elements of this tag, each up to the first tag in it."""
        return [text for found, text in self.texts if found == tag]


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def read(page: str) -> dict[str, Any]:
    """The page's data, with arrays for what is packed."""
    data = json.loads(Parts(page).all("script")[0], parse_constant=refuse_constant)
    for name, packed in data["arrays"].items():
        ((kind, text),) = packed.items()
        data["arrays"][name] = np.frombuffer(base64.b64decode(text), f"<{kind}")
    return data


def written(folder: Path, net_or_graph: Any, title: str | None = None) -> str:
    path = fw.to_html(net_or_graph, folder / "net.html", title)
    assert path == str(folder / "net.html")
    return Path(path).read_text("utf-8")


@pytest.fixture
def trained() -> fw.Network:
    """A network with gradients."""
    torch.manual_seed(0)
    net = fw.Network(fw.generators.random_graph(3, 9, 2, 3, activation="tanh", seed=1))
    net(torch.randn(4, 3)).square().sum().backward()
    return net


class TestData:
    def test_everything_a_network_holds(self, trained, tmp_path):
        data, g = read(written(tmp_path, trained)), trained.graph
        found = data["arrays"]
        np.testing.assert_array_equal(found["source"], g.edge_index[0])
        np.testing.assert_array_equal(found["target"], g.edge_index[1])
        np.testing.assert_array_equal(found["weight"], trained.weight.detach().numpy())
        np.testing.assert_array_equal(found["weightGrad"], trained.weight.grad.numpy())
        assert found["weight"].dtype == np.float32
        for name, values in (("bias", trained.bias), ("biasGrad", trained.bias.grad)):
            np.testing.assert_array_equal(found[name][g.computed_index], values.detach().numpy())
            assert np.isnan(found[name][g.input_index]).all()
        np.testing.assert_array_equal(np.column_stack((found["x"], found["y"])), layered(g).astype(np.float32))
        np.testing.assert_array_equal(found["level"], g.level)
        names = [data["activations"][code] for code in found["activation"]]
        assert names == [ACTIVATIONS[code] for code in g.activation]
        assert [data["aggregations"][code] for code in found["aggregation"]] == [
            AGGREGATIONS[code] for code in g.aggregation
        ]
        assert (data["names"], data["stored"]) == (None, False)

    def test_what_a_graph_stores(self, tmp_path):
        weight = [1e300, np.inf, -0.1]
        g = fw.Graph.from_edges([0, 1, 2], [2, 2, 3], weight=weight, bias=[0, 0, 5, -np.inf])
        data = read(written(tmp_path, g))
        found = data["arrays"]
        assert data["stored"]
        assert set(found) >= {"weight", "bias"}
        assert not {"weightGrad", "biasGrad"} & set(found)
        assert found["weight"].tolist() == weight  # as float64, since 1e300 and 0.1 are no float32
        np.testing.assert_array_equal(found["bias"], [np.nan, np.nan, 5, -np.inf])

    def test_numbers_that_are_missing_or_broken(self, tmp_path):
        net = fw.Network(fw.generators.mlp([2, 1]))
        with torch.no_grad():
            net.weight[:] = torch.tensor([np.nan, -np.inf])
        found = read(written(tmp_path, net))["arrays"]["weight"]
        assert np.isnan(found[0])
        assert found[1] == -np.inf
        G = nx.DiGraph()
        G.add_edge("a", "c", weight=2.0)
        G.add_edge("b", "c")
        np.testing.assert_array_equal(
            read(written(tmp_path, fw.Graph.from_networkx(G)))["arrays"]["weight"], [2.0, np.nan]
        )

    def test_roles(self, tmp_path):
        g = fw.Graph.from_edges([0, 1, 1], [1, 2, 3], num_nodes=5, inputs=[0], outputs=[1, 2])
        assert read(written(tmp_path, g))["arrays"]["role"].tolist() == [1, 2, 2, 4, 4 + 8]

    def test_names_that_are_not_text(self, tmp_path):
        names = [("layer", 3), 7, np.int64(8), 2.5, True, b"x", frozenset({1})]
        G = nx.DiGraph()
        G.add_edges_from((name, "out") for name in names)
        expected = ["('layer', 3)", "7", "8", "2.5", "True", "b'x'", "frozenset({1})", "out"]
        assert sorted(read(written(tmp_path, fw.Graph.from_networkx(G)))["names"]) == sorted(expected)


class TestHostileNames:
    def test_nothing_breaks_out(self, tmp_path):
        G = nx.DiGraph([(name, "out") for name in ODD_NAMES])
        page = written(tmp_path, fw.Graph.from_networkx(G))
        plain = written(tmp_path, fw.Graph.from_networkx(nx.DiGraph([("a", "out")])))
        assert [tag for tag, _ in Parts(page).tags] == [tag for tag, _ in Parts(plain).tags]
        names = read(page)["names"]
        assert sorted(names) == sorted([text or "(empty)" for text in (*ODD_NAMES.values(), "out")])
        assert page.split('id="data">')[1].split("</script>")[0].isascii()

    def test_title(self, tmp_path):
        title = "</title><script>alert(1)</script>\u202e&amp;\ud800"
        page = Parts(written(tmp_path, fw.generators.mlp([1, 1]), title))
        assert page.all("title") == ["</title><script>alert(1)</script>\\u202e&amp;\\ud800"]
        assert [tag for tag, _ in page.tags].count("script") == 2

    def test_default_title(self, trained, tmp_path):
        assert Parts(written(tmp_path, trained)).all("title") == ["Network"]
        assert Parts(written(tmp_path, trained.graph)).all("title") == ["Graph"]


class TestPage:
    def test_policy_permits_this_script_and_style_alone(self, trained, tmp_path):
        page = Parts(written(tmp_path, trained))
        (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
        (style,), (_, script) = page.all("style"), page.all("script")
        for kind, text in (("script-src", script), ("style-src", style)):
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert rules.pop(kind) == f"'sha256-{digest}'"
        assert rules == {
            "default-src": "'none'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }

    def test_names_no_other_file(self, trained, tmp_path):
        page = written(tmp_path, trained)
        attributes = {name for _, found in Parts(page).tags for name in found}
        assert not attributes & {"src", "href", "srcset", "style", "action", "onclick", "onload"}
        addresses = set(re.findall(r"\b\w+://[^\s\"'<]+", page)) | set(re.findall(r"@import|url\(", page))
        assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which nothing fetches
        assert page.startswith("<!DOCTYPE html>\n")
        assert not re.search("SPDX", page)

    def test_size(self, tmp_path):
        """As its docstring says."""
        assert len(written(tmp_path, fw.generators.mlp([1, 1]))) < 70_000
        sizes = []
        for edges in (10, 1010):
            g = fw.Graph.from_edges([0] * edges, [1] * edges, weight=np.linspace(0, 1, edges))
            net = fw.Network(g, dtype=torch.float64)
            net(torch.ones(1, 1, dtype=torch.float64)).sum().backward()
            net.weight.grad *= 0.1  # no float32 either
            sizes.append(len(written(tmp_path, net)))
        assert 1000 * 20 < sizes[1] - sizes[0] <= 1000 * 32 + 8
        nodes = [
            len(written(tmp_path, fw.Graph.from_edges([], [], num_nodes=n, inputs=[0], bias=np.linspace(0, 1, n))))
            for n in (10, 1010)
        ]
        assert nodes[1] - nodes[0] <= 1000 * 45

    def test_replaces_a_page(self, trained, tmp_path):
        written(tmp_path, trained, "old")
        assert Parts(written(tmp_path, trained, "new")).all("title") == ["new"]
        assert os.listdir(tmp_path) == ["net.html"]

    def test_scripts_are_all_included(self, trained, tmp_path):
        page = written(tmp_path, trained)
        sources = sorted((ROOT / "freewire" / "pictures" / "web").glob("*.js"))
        assert len(sources) > 5
        for path in sources:
            assert path.read_text().partition("\n")[2] in page, path.name


class TestErrors:
    @pytest.mark.parametrize("name", ["net.svg", "net", "html", "net.html.gz"])
    def test_another_suffix(self, name, tmp_path):
        assert_refused(lambda: fw.to_html(fw.generators.mlp([1, 1]), tmp_path / name), "path: ", InputError)
        assert os.listdir(tmp_path) == []

    def test_other_spellings_of_the_suffix(self, tmp_path):
        for name in ("a.HTML", "b.htm", ".html"):
            assert os.path.exists(fw.to_html(fw.generators.mlp([1, 1]), tmp_path / name))

    @pytest.mark.parametrize(
        ("net", "match"),
        [
            (torch.nn.Linear(2, 2), "net_or_graph: expected a Graph or a module"),
            (nx.DiGraph([(0, 1)]), "net_or_graph: expected a Graph or a module"),
            (None, "net_or_graph: expected a Graph or a module"),
            (fw.Network(fw.generators.mlp([2, 1]), device="meta"), "weight: expected values, got a tensor on the meta"),
            (
                fw.Graph.from_edges(np.zeros(10**6, int), np.ones(10**6, int)),
                "net_or_graph: expected at most 200,000 edges in a page, got 1,000,000. Draw it with freewire.plot",
            ),
            (
                fw.Graph.from_edges([], [], num_nodes=50_001),
                "net_or_graph: expected at most 50,000 nodes in a page, got 50,001.",
            ),
        ],
        ids=["Linear", "networkx", "None", "meta", "edges", "nodes"],
    )
    def test_what_cannot_be_shown(self, net, match, tmp_path):
        assert_refused(lambda: fw.to_html(net, tmp_path / "net.html"), match, GraphError)
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            ({"path": None}, "path: expected a str, bytes or os.PathLike, got NoneType"),
            ({"path": "net.html", "title": 3}, "title: expected text, got 3"),
        ],
    )
    def test_other_types(self, arguments, match):
        assert_refused(lambda: fw.to_html(fw.generators.mlp([1, 1]), **arguments), match, InputError)

    def test_folder(self, tmp_path):
        (tmp_path / "there.html").mkdir()
        for path, error in (("none/net.html", FileNotFoundError), ("there.html", IsADirectoryError)):
            with pytest.raises(error, match=r"path: expected .*, got .*") as caught:
                fw.to_html(fw.generators.mlp([1, 1]), tmp_path / path)
            assert not isinstance(caught.value, FreewireError)

    def test_folder_that_cannot_be_written(self):
        with as_nobody() as folder:
            (folder / "locked").mkdir(0o555)
            with pytest.raises(PermissionError, match=r"path: expected a folder in which files may be created, got "):
                fw.to_html(fw.generators.mlp([1, 1]), folder / "locked" / "net.html")
