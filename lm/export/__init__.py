"""Export: ONNX, safetensors, Hugging Face, word vectors."""
