"""Taking a trained model elsewhere: ONNX, safetensors, Hugging Face, word vectors."""
