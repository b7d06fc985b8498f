//! A route as one value: what it asks for, what it takes, what it answers, and who handles it. Access, the OpenAPI
//! document and the router are made from the same list, so none can say what another does not.

use super::role::Access;
use super::routes::Api;
use super::write::Why;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::sync::Arc;

/// Makes a schema, and puts those that it refers to into the generator.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a route answers when all is well.
#[derive(Clone, Copy)]
pub(super) struct Success {
    pub(super) status: u16,
    pub(super) media: &'static str,
    /// None = text or bytes.
    pub(super) schema: Option<SchemaOf>,
}

/// What a route takes as its body.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    /// Nothing.
    Nothing,
    /// JSON of a type.
    Json(SchemaOf),
    /// A file.
    Upload,
}

/// A route.
pub struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    /// Its name in the document (`operationId`).
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) query: Option<SchemaOf>,
    pub(super) takes: Takes,
    pub(super) headers: &'static [&'static str],
    /// Its answers carry the rule's entity tag.
    pub(super) tagged: bool,
    pub(super) answers: Vec<Success>,
    /// Refusals of its own, beside those that every route has: status and code.
    pub(super) refusals: &'static [(u16, &'static str)],
    /// Schema of refusals that are no problem documents: their statuses.
    pub(super) other_refusals: Vec<(u16, SchemaOf)>,
    pub(super) handler: MethodRouter<Arc<Api>>,
}

impl Route {
    fn new<H, T>(method: Method, filter: MethodFilter, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        Self {
            method,
            path,
            access,
            name: "",
            about: "",
            query: None,
            takes: Takes::Nothing,
            headers: &[],
            tagged: false,
            answers: Vec::new(),
            refusals: &[],
            other_refusals: Vec::new(),
            handler: on(filter, handler),
        }
    }

    /// `GET path`.
    pub(super) fn get<H: Handler<T, Arc<Api>>, T: 'static>(
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        Self::new(Method::GET, MethodFilter::GET, path, access, handler)
    }

    /// `POST path`.
    pub(super) fn post<H: Handler<T, Arc<Api>>, T: 'static>(
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        Self::new(Method::POST, MethodFilter::POST, path, access, handler)
    }

    /// Its name and what it does.
    pub(super) fn named(mut self, name: &'static str, about: &'static str) -> Self {
        (self.name, self.about) = (name, about);
        self
    }

    /// Its parameters are the fields of `Q`; a route without them takes no query at all.
    pub(super) fn query<Q: JsonSchema>(mut self) -> Self {
        self.query = Some(Q::json_schema);
        self
    }

    /// It takes JSON.
    pub(super) fn takes<B: JsonSchema>(mut self) -> Self {
        self.takes = Takes::Json(|generator| generator.subschema_for::<B>());
        self
    }

    /// It takes a file.
    pub(super) fn takes_upload(mut self) -> Self {
        self.takes = Takes::Upload;
        self
    }

    /// It reads these headers.
    pub(super) fn reads_headers(mut self, names: &'static [&'static str]) -> Self {
        self.headers = names;
        self
    }

    /// Its answers carry the rule's entity tag.
    pub(super) fn tagged(mut self) -> Self {
        self.tagged = true;
        self
    }

    /// It changes a rule: its reason, what the writer has seen, and a key under which it is done once.
    pub(super) fn writes(self) -> Self {
        self.query::<Why>().reads_headers(&["If-Match", "Idempotency-Key"]).tagged()
    }

    /// It answers JSON.
    pub(super) fn json<A: JsonSchema>(self, status: u16) -> Self {
        self.success(Success {
            status,
            media: "application/json",
            schema: Some(|generator| generator.subschema_for::<A>()),
        })
    }

    /// It answers text, or a stream.
    pub(super) fn text(self, media: &'static str) -> Self {
        self.success(Success { status: 200, media, schema: None })
    }

    /// It answers without a body.
    pub(super) fn empty(self, status: u16) -> Self {
        self.success(Success { status, media: "", schema: None })
    }

    fn success(mut self, answer: Success) -> Self {
        self.answers.push(answer);
        self
    }

    /// Its own refusals.
    pub(super) fn refuses(mut self, refusals: &'static [(u16, &'static str)]) -> Self {
        self.refusals = refusals;
        self
    }

    /// A refusal in another form than a problem document.
    pub(super) fn refuses_as<E: JsonSchema>(mut self, status: u16) -> Self {
        self.other_refusals.push((status, |generator| generator.subschema_for::<E>()));
        self
    }

    /// Its method and path.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// What it asks for.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Its own refusals: status and code.
    #[must_use]
    pub fn refusals(&self) -> &'static [(u16, &'static str)] {
        self.refusals
    }
}
