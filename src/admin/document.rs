//! What every call may answer by the rules that all of them pass: told in the OpenAPI document for each, by the same rules.

use axum::http::Method;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response, ResponseBuilder};

use super::auth::required_role;
use crate::config::Role;

const PROBLEM: &str = "Problem";
const PROBLEM_TYPE: &str = "application/problem+json";

/// Completes a document of the endpoints' own answers.
pub(super) fn complete(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let calls = [
            (Method::GET, &mut item.get),
            (Method::PUT, &mut item.put),
            (Method::POST, &mut item.post),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in calls {
            if let Some(operation) = operation {
                answers(operation, required_role(&method, path, true));
            }
        }
    }
}

fn answers(operation: &mut Operation, role: Option<Role>) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && is_problem(response)
        {
            response.content.clear();
            response.content.insert(PROBLEM_TYPE.to_owned(), content());
        }
    }
    let (body, parameters) = (operation.request_body.is_some(), operation.parameters.is_some());
    let mut add = |status: &str, description: &str| {
        let responses = &mut operation.responses.responses;
        if !responses.contains_key(status) {
            let mut response = ResponseBuilder::new().description(description).build();
            response.content.insert(PROBLEM_TYPE.to_owned(), content());
            responses.insert(status.to_owned(), response.into());
        }
    };
    add("403", "a request of another site, or a role that is too small");
    add("421", "a host that is not served here");
    if role.is_some() {
        add("401", "no token, or one that is not known");
    }
    // A bad token counts wherever it is sent.
    add(
        "429",
        "too many bad tokens from this address; `Retry-After` tells when to try again",
    );
    if role > Some(Role::Viewer) {
        add("413", "the body is too large");
        add(
            "503",
            "the change cannot be recorded in the audit log, and was not made",
        );
    }
    if body || parameters {
        add("400", "what was sent makes no sense");
    }
    if body {
        add("413", "the body is too large");
        add("415", "the body is of another type");
        add("422", "the body has other fields");
    }
}

fn is_problem(response: &Response) -> bool {
    response.content.values().any(|content| match content {
        RefOr::T(content) => {
            matches!(&content.schema, Some(RefOr::Ref(schema)) if *schema == Ref::from_schema_name(PROBLEM))
        }
        RefOr::Ref(_) => false,
    })
}

fn content() -> RefOr<Content> {
    RefOr::T(Content::new(Some(Ref::from_schema_name(PROBLEM))))
}
