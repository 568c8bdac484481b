# SPDX-License-Identifier: MIT
"""freewire's image models with torchvision: classifying a picture, features of any node, and its version of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names
from torchvision.transforms import v2

import freewire as fw


@pytest.fixture(scope="module")
def model() -> fw.models.RandWire:
    torch.manual_seed(0)
    return fw.models.randwire_ws_small(num_classes=10).eval()


def test_from_a_picture_to_classes(model):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(72, antialias=True),
            v2.CenterCrop(64),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    x = transform(Image.fromarray(pixels))
    with torch.no_grad():
        classes = model(x[None]).softmax(-1)
    assert classes.shape == (1, 10)
    assert float(classes.sum()) == pytest.approx(1, abs=1e-5)


def test_features_of_any_node(model):
    """The extractor traces the model, so it can return the result of any stage or node."""
    train, evaluation = get_graph_node_names(model)
    assert "stages.1.nodes.31.bn" in evaluation
    assert train == evaluation
    extractor = create_feature_extractor(model, {"stages.0.nodes.7": "node", "stages.1": "stage", "head": "head"})
    seen = []
    hooks = [m.register_forward_hook(lambda *a: seen.append(a[-1])) for m in (model.stages[0].nodes[7], model.head)]
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        model(x)
        for hook in hooks:
            hook.remove()
        features = extractor.eval()(x)
        assert torch.equal(features["node"], seen[0])
        # The extractor runs all stages node by node, and the model those without hooks as one operator each.
        torch.testing.assert_close(features["stage"], model.forward_maps(x)[3])
        torch.testing.assert_close(features["head"], seen[1])


class TestThisTorch:
    """The other tests run on an older torch."""

    @pytest.mark.slow
    def test_compiled_without_inductor(self, model):
        """The whole model; inductor would take a minute for so many nodes, this takes 10 seconds."""
        x = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(torch.compile(model, fullgraph=True, backend="aot_eager")(x), model(x))

    @pytest.mark.slow
    def test_compiled(self):
        """A stage of 8 nodes; 10 seconds."""
        torch.manual_seed(0)
        stage = fw.models.GraphStage(fw.generators.watts_strogatz_dag(8, 4, 0.75, seed=0), 3, 8).eval()
        x = torch.rand(2, 3, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(torch.compile(stage, fullgraph=True)(x), stage(x))

    def test_trained(self):
        torch.manual_seed(0)
        model = fw.models.randwire_ws_small(num_classes=10, edge_drop=1.0)
        x, y = torch.rand(2, 3, 32, 32), torch.tensor([1, 2])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        losses = []
        for _ in range(3):
            loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[2] < losses[0]
