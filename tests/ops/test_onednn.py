"""The flag that turns oneDNN off comes back as it was."""

import pytest
import torch

from lm.ops import without_onednn


@pytest.mark.parametrize("before", [True, False])
def test_the_flag_is_as_before_also_after_an_error(before):
    original = torch.backends.mkldnn.set_flags(before, _fp32_precision=None)[0]
    try:
        with pytest.raises(KeyError), without_onednn():
            assert not torch.backends.mkldnn.enabled
            raise KeyError
        assert torch.backends.mkldnn.enabled == before
    finally:
        torch.backends.mkldnn.set_flags(original, _fp32_precision=None)
