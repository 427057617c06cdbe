// What openai's JavaScript SDK, and Vercel's AI SDK over OpenAI's Responses, see.
import { alone, assert, base, key, load, main, refused } from "./checks.mjs";

const { default: OpenAI, toFile } = await load("openai");
const { generateText, generateObject, jsonSchema, streamText, tool } = await load("ai");
const { createOpenAI } = await load("@ai-sdk/openai");
const client = new OpenAI({ defaultHeaders: alone, maxRetries: 0 });
const openai = createOpenAI({ baseURL: base, apiKey: key, headers: alone });
const model = openai.responses("default");
const brief = { model: "default", temperature: 0, max_output_tokens: 16 };
const city = jsonSchema({ type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"], additionalProperties: false });

main({
  async aTextIsAnswered() {
    const made = await client.responses.create({ input: "Say hello.", ...brief });
    assert(made.output_text && made.usage.total_tokens > 0, made);
    const found = await client.responses.retrieve(made.id);
    assert(found.id === made.id, found);
    const next = await client.responses.create({ input: "Again.", previous_response_id: made.id, ...brief });
    assert(next.usage.input_tokens > made.usage.input_tokens, next.usage);
  },

  async aStreamIsPutTogether() {
    const stream = client.responses.stream({ input: "Say hello.", ...brief, max_output_tokens: 200 });
    let text = "";
    for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
    const final = await stream.finalResponse();
    assert(text && final.output_text === text, text, final.output_text);
  },

  async anErrorHasItsStatus() {
    const error = await refused(() => client.responses.retrieve("resp_none"));
    assert(error.status === 404, error);
  },

  async theAiSdkGeneratesAndStreams() {
    const made = await generateText({ model, prompt: "Say hello.", temperature: 0, maxOutputTokens: 16, maxRetries: 0 });
    assert(made.text && made.usage.outputTokens > 0, made.text, made.usage);
    const stream = streamText({ model, prompt: "Say hello.", temperature: 0, maxOutputTokens: 16, maxRetries: 0 });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    assert(text === made.text && (await stream.usage).outputTokens > 0, text, made.text);
  },

  async theAiSdkCallsTools() {
    const tools = { weather: tool({ description: "The weather", inputSchema: city }) };
    const asked = { tools, toolChoice: "required", temperature: 0, maxOutputTokens: 80, maxRetries: 0 };
    const made = await generateText({ model, prompt: "Weather in Rome?", ...asked });
    assert(made.toolCalls[0].toolName === "weather" && made.toolCalls[0].input.city !== undefined, made.toolCalls);
    const result = { type: "tool-result", toolCallId: made.toolCalls[0].toolCallId, toolName: "weather", output: { type: "text", value: "sunny" } };
    const messages = [{ role: "user", content: "Weather in Rome?" }, ...made.response.messages, { role: "tool", content: [result] }];
    const next = await generateText({ model, messages, temperature: 0, maxOutputTokens: 16, maxRetries: 0 });
    assert(next.usage.inputTokens > made.usage.inputTokens || next.text, next);
  },

  async filesAreSearched() {
    const store = await client.vectorStores.create({ name: "rules" });
    const handbook = await toFile(Buffer.from("The notice period is six weeks.\n"), "handbook.md");
    const file = await client.vectorStores.files.uploadAndPoll(store.id, handbook);
    assert(file.status === "completed", file);
    const asked = { ...brief, input: "How long is the notice period?", tools: [{ type: "file_search", vector_store_ids: [store.id] }] };
    const made = await client.responses.create({ ...asked, include: ["file_search_call.results"] });
    assert(made.output[0].results[0].text.includes("six weeks"), made.output);
    assert(made.output[1].content[0].annotations[0].file_id === file.id, made.output[1]);
    const final = await client.responses.stream(asked).finalResponse();
    assert(final.output[1].content[0].annotations[0].filename === "handbook.md", final.output);
    const tools = { file_search: openai.tools.fileSearch({ vectorStoreIds: [store.id] }) };
    const question = { model, tools, prompt: asked.input, temperature: 0, maxOutputTokens: 16, maxRetries: 0 };
    const { sources, text } = await generateText(question);
    assert(text && sources[0].filename === "handbook.md", text, sources);
    const streamed = streamText(question);
    await streamed.consumeStream();
    assert((await streamed.sources)[0].filename === "handbook.md" && (await streamed.text) === text, await streamed.sources);
  },

  async theAiSdkMakesObjects() {
    const made = await generateObject({ model, schema: city, prompt: "The capital of France?", temperature: 0, maxOutputTokens: 80, maxRetries: 0 });
    assert(typeof made.object.city === "string", made.object);
  },
});
