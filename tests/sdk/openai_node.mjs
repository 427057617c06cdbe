// What the official OpenAI SDK for JavaScript sees.
import { alone, assert, load, main, refused } from "./checks.mjs";

const { default: OpenAI } = await load("openai");
const client = new OpenAI({ maxRetries: 0, defaultHeaders: alone });
const hello = { model: "default", messages: [{ role: "user", content: "Say hello." }], temperature: 0, max_tokens: 12 };
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"] },
  },
};

main({
  async modelsAreListed() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert(ids.length === 2, ids);
    assert((await client.models.retrieve(ids[0])).id === ids[0]);
  },

  async aChatAnswersAndStreamsTheSame() {
    const whole = await client.chat.completions.create(hello);
    let text = "";
    let usage;
    const stream = await client.chat.completions.create({ ...hello, stream: true, stream_options: { include_usage: true } });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert(text === whole.choices[0].message.content, text, whole);
    assert(usage.completion_tokens === whole.usage.completion_tokens, usage);
  },

  async theStreamHelperPutsItTogether() {
    const stream = client.chat.completions.stream({ ...hello, n: 2, seed: 1 });
    const final = await stream.finalChatCompletion();
    assert(final.choices.length === 2 && final.choices[1].message.role === "assistant", final);
  },

  async aRequiredToolStreams() {
    const stream = client.chat.completions.stream({ ...hello, max_tokens: 80, tools: [weather], tool_choice: "required" });
    const call = (await stream.finalChatCompletion()).choices[0].message.tool_calls[0];
    assert(call.function.name === "get_weather" && JSON.parse(call.function.arguments).city !== undefined, call);
  },

  async probabilitiesComeAlong() {
    const reply = await client.chat.completions.create({ ...hello, logprobs: true, top_logprobs: 2 });
    assert(reply.choices[0].logprobs.content.every((token) => token.logprob <= 0 && token.top_logprobs.length === 2));
  },

  async errorsAreItsOwnClasses() {
    const wrong = new OpenAI({ apiKey: "hb-wrong", maxRetries: 0 });
    assert((await refused(() => wrong.models.list())) instanceof OpenAI.AuthenticationError);
    const unknown = await refused(() => client.chat.completions.create({ ...hello, model: "no-such-model" }));
    assert(unknown instanceof OpenAI.NotFoundError && unknown.code === "model_not_found", unknown);
    const range = await refused(() => client.chat.completions.create({ ...hello, temperature: 3 }));
    assert(range instanceof OpenAI.BadRequestError && range.param === "temperature", range);
  },

  async vectorsAreUnpacked() {
    const made = await client.embeddings.create({ model: "default", input: ["a dog", "a cat"] });
    assert(made.data.length === 2 && made.data[0].embedding.length === 384, made.usage);
    assert(Math.abs(Math.hypot(...made.data[0].embedding) - 1) < 1e-3);
  },

  async aRawPromptStreams() {
    let text = "";
    for await (const chunk of await client.completions.create({ model: "default", prompt: "One, two,", max_tokens: 4, stream: true }))
      text += chunk.choices[0]?.text ?? "";
    assert(text.length > 0);
  },

  async leavingAStreamIsNoTrouble() {
    const stream = await client.chat.completions.create({ ...hello, max_tokens: 2000, temperature: 1, stream: true });
    for await (const _ of stream) break;
    stream.controller.abort();
    assert(await client.chat.completions.create({ ...hello, max_tokens: 2 }));
  },
});
