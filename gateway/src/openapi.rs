//! The API's description, made from the handlers. `openapi.yaml` at the root of the project is a copy that a test
//! compares: a change of the API is seen in review.

use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, ContactBuilder, ContentBuilder, Info, InfoBuilder, LicenseBuilder, Object, ObjectBuilder, OpenApi,
    OpenApiBuilder, Ref, RefOr, ResponseBuilder, Server, Type,
};

use crate::routes;

/// What stands above the routes.
pub(crate) fn head() -> OpenApi {
    let mut components = Components::new();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "A key, `hb-…`: `habit keys create` makes one. `x-api-key` and `api-key` headers carry it as well.",
    ));
    components.add_security_scheme("key", SecurityScheme::Http(bearer.build()));
    let tags = [
        ("chat", "Conversations, in OpenAI's shape."),
        (
            "embeddings",
            "Texts as vectors, in OpenAI's shape, and documents put in order by them.",
        ),
        (
            "responses",
            "OpenAI's Responses, and the conversations that they may be part of.",
        ),
        ("messages", "Conversations, in Anthropic's shape; so are the errors."),
        ("models", "What may be asked, in OpenAI's shape."),
        (
            "turns",
            "What was recorded of each turn, and what memory put before the model.",
        ),
        (
            "documents",
            "What a user, a team or a conversation gave memory to read.",
        ),
        (
            "memories",
            "What is known of a user: facts with their history, everything told or erased, and opt-outs.",
        ),
        (
            "learning",
            "What users say of replies, what was learnt from it, and how to undo it.",
        ),
        (
            "downtime",
            "The work for which nobody waits: shown, run, explained and taken back; for admin keys.",
        ),
        ("administration", "Keys of a team, and the index; for admin keys."),
        (
            "webui",
            "text-generation-webui's own endpoints. Its fields on chat completions (`mode`, `character`, `preset`, \
             `continue_`, …) work too.",
        ),
        ("server", "The server itself."),
    ];
    let tags = tags.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build());
    OpenApiBuilder::new()
        .info(info())
        .servers(Some([Server::new("http://127.0.0.1:8420")]))
        .components(Some(components))
        .security(Some([SecurityRequirement::new("key", Vec::<String>::new())]))
        .tags(Some(tags))
        .build()
}

/// The same with what every operation may answer: whatever status is not named is an error, and errors have one shape.
/// Routes in another dialect have said theirs by then.
pub(crate) fn with_errors(mut api: OpenApi) -> OpenApi {
    let shape = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("ErrorBody")))
        .build();
    let error = ResponseBuilder::new()
        .description("An error")
        .content("application/json", shape)
        .build();
    for path in api.paths.paths.values_mut() {
        let operations = [
            &mut path.get,
            &mut path.put,
            &mut path.post,
            &mut path.delete,
            &mut path.patch,
        ];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses
                .entry("default".to_owned())
                .or_insert_with(|| error.clone().into());
            for response in responses.values_mut() {
                if let RefOr::T(response) = response
                    && let Some(RefOr::T(stream)) = response.content.get_mut("text/event-stream")
                    && let Some(RefOr::Ref(data)) = stream.schema.take()
                {
                    stream.schema = Some(event_of(&data).into());
                }
            }
        }
    }
    api
}

/// An event of a stream. What its `data` holds is JSON in a string, which a schema can only name.
fn event_of(data: &Ref) -> Object {
    let kind = data.ref_location.rsplit('/').next().unwrap_or_default();
    let text = |about: String| ObjectBuilder::new().schema_type(Type::String).description(Some(about));
    let json = text(format!(
        "A `{kind}` as JSON; `[DONE]` at the end of streams in OpenAI's older shapes."
    ))
    .content_media_type("application/json")
    .extensions(Some(
        ExtensionsBuilder::new()
            .add("x-schema", data.ref_location.as_str())
            .build(),
    ));
    ObjectBuilder::new()
        .description(Some("One server-sent event."))
        .property("event", text("Its name, where the dialect has names.".to_owned()))
        .property("data", json)
        .required("data")
        .build()
}

fn info() -> Info {
    InfoBuilder::new()
        .title("Habit")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "An OpenAI-compatible inference gateway that remembers. Every path also answers without `/v1`. Every reply \
             has an `x-request-id`; every error has the shape of `ErrorBody`.",
        ))
        .contact(Some(ContactBuilder::new().name(Some("Habit")).build()))
        .license(Some(
            LicenseBuilder::new()
                .name("Apache-2.0")
                .identifier(Some("Apache-2.0"))
                .build(),
        ))
        .build()
}

/// The description as YAML.
///
/// # Errors
/// If it can't be written as YAML, which would be a bug.
pub fn yaml() -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    Ok(routes::documented().to_yaml()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_copy_at_the_root_is_current() {
        // Where it runs, not where it was built: build caches outlive clones.
        let path = format!("{}/../openapi.yaml", std::env::var("CARGO_MANIFEST_DIR").unwrap());
        let copy = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            copy == super::yaml().unwrap(),
            "the API changed: run `habit openapi > openapi.yaml` and look at the diff"
        );
    }

    #[test]
    fn every_operation_has_its_own_id() {
        let document = serde_json::to_value(crate::routes::documented()).unwrap();
        let mut ids = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            assert!(path.starts_with("/v1/") || path == "/health", "{path}");
            ids.extend(
                item.as_object()
                    .unwrap()
                    .values()
                    .filter_map(|operation| operation["operationId"].as_str()),
            );
        }
        let unique: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len(), "{ids:?}");
    }
}
