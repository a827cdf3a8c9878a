"""Peak memory of harvesting and training is below the stated bound, however long the text."""

import subprocess
import sys
from pathlib import Path

import pytest

from rarefy.dictionaries import memory_bound

SCRIPT = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from rarefy.dictionaries import fit

torch.set_num_threads(1)
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=64, hidden_size=128, intermediate_size=32, num_hidden_layers=2,
    num_attention_heads=2,
))
buffer, length = 8192, 64
windows = torch.randint(3, 64, (10 * buffer // length, length))

def memory(what):
    with open("/proc/self/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith(what))

def run(activation, text, buffer):
    fit(model, text, 0, activation=activation, k=8, n_latents=512, tokens=text.numel(),
        batch_size=512, buffer_tokens=buffer, skip=0)

for activation in ("topk", "relu"):
    run(activation, windows[:16], 512)  # libraries, kernels, one small buffer
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins again
    before = memory("VmRSS")
    run(activation, windows, buffer)
    print(memory("VmHWM") - before)
print(windows.numel() * 128 * 4)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks as Linux tells them")
def test_ten_buffers_of_text_stay_below_the_bound():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    *grown, corpus = map(int, run.stdout.split())
    bound = memory_bound(128, 512, batch_size=512, buffer_tokens=8192, k=8)
    assert len(grown) == 2
    assert max(grown) < bound < corpus / 2
    # at least the buffer was seen to come
    assert grown[0] > 4 * 8192 * 128
