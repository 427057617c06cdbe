// What Vercel's AI SDK sees, through its provider for OpenAI-compatible servers and through OpenAI's chat model.
import { alone, assert, base, key, load, main, refused } from "./checks.mjs";

const { embedMany, generateText, generateObject, jsonSchema, streamText, tool } = await load("ai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { createOpenAI } = await load("@ai-sdk/openai");
const habit = createOpenAICompatible({
  name: "habit", baseURL: base, apiKey: key, headers: alone, includeUsage: true, supportsStructuredOutputs: true,
});
const openai = createOpenAI({ baseURL: base, apiKey: key, headers: alone });
const models = [habit("default"), openai.chat("default")];
const brief = { temperature: 0, maxOutputTokens: 16, maxRetries: 0 };
const city = jsonSchema({ type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"], additionalProperties: false });

main({
  async aTextIsGenerated() {
    for (const model of models) {
      const made = await generateText({ model, prompt: "Say hello.", ...brief });
      assert(made.text && made.usage.outputTokens > 0, made.text, made.usage);
    }
  },

  async aTextIsStreamed() {
    for (const model of models) {
      const made = streamText({ model, prompt: "Say hello.", ...brief });
      let text = "";
      for await (const piece of made.textStream) text += piece;
      assert(text && (await made.usage).outputTokens > 0, text);
    }
  },

  async aToolIsCalled() {
    for (const model of models) {
      const tools = { weather: tool({ description: "The weather", inputSchema: city }) };
      const made = await generateText({ model, prompt: "Weather in Rome?", tools, toolChoice: "required", ...brief, maxOutputTokens: 80 });
      assert(made.toolCalls[0].toolName === "weather" && made.toolCalls[0].input.city !== undefined, made.toolCalls);
    }
  },

  async anObjectIsMade() {
    for (const model of models) {
      const made = await generateObject({ model, schema: city, prompt: "Which city is the capital of France?", ...brief, maxOutputTokens: 80 });
      assert(typeof made.object.city === "string", made.object);
    }
  },

  async textsAreEmbedded() {
    const made = await embedMany({ model: habit.textEmbeddingModel("all-minilm-l6-v2"), values: ["a dog", "a cat"] });
    assert(made.embeddings.length === 2 && made.embeddings[0].length === 384);
  },

  async anErrorHasItsStatus() {
    const error = await refused(() => generateText({ model: habit("no-such-model"), prompt: "hi", ...brief }));
    assert(error.statusCode === 404, error);
  },
});
