"""Answers several questions at once, without a server."""

from artesian import LLM, SamplingParams

QUESTIONS = ["Why is the sky blue?", "What is a prime number?", "Who wrote Hamlet?"]

with LLM("smollm2", max_model_len=2048) as llm:
    conversations = [[{"role": "user", "content": question}] for question in QUESTIONS]
    results = llm.chat(conversations, SamplingParams(temperature=0.0, max_tokens=60))
    for question, result in zip(QUESTIONS, results, strict=True):
        print(f"{question}\n  {result.outputs[0].text.strip()}\n")
