//! A request that is asked about before it is sent.

use serde_json::{Value, json};

use super::call::Call;
use super::sidecar::Sidecar;

/// A request, to be explained and to be sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
}

/// `GET target`.
pub(crate) fn get(target: &str) -> Ask {
    Ask {
        method: "GET",
        target: target.to_owned(),
        ..Ask::default()
    }
}

/// `POST /v1/chat` with a JSON body.
pub(crate) fn chat(body: &str) -> Ask {
    Ask {
        method: "POST",
        body: Some(body.to_owned()),
        ..get("/v1/chat")
    }
    .with("content-type", "application/json")
}

impl Ask {
    /// With this header field.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// By another method.
    pub(crate) fn by(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// With this body.
    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    /// As it is sent.
    pub(crate) fn call(&self) -> Call {
        let call = Call::new(self.method, &self.target);
        let call = self
            .headers
            .iter()
            .fold(call, |call, (name, value)| call.header(name, value));
        match &self.body {
            Some(body) => call.text(body.clone()),
            None => call,
        }
    }

    /// Its head, byte for byte; to the host `hub` if it names none.
    pub(crate) fn head(&self) -> String {
        let host = [("host", String::from("hub"))];
        let named = self.headers.iter().any(|(name, _)| *name == "host");
        let fields = host.iter().filter(|_| !named).chain(&self.headers);
        let fields = fields.map(|(name, value)| format!("{name}: {value}\r\n"));
        format!(
            "{} {} HTTP/1.1\r\n{}\r\n",
            self.method,
            self.target,
            fields.collect::<String>()
        )
    }

    /// As it is asked about.
    pub(crate) fn json(&self, sidecar: &Sidecar) -> Value {
        let mut headers = serde_json::Map::new();
        for (name, value) in &self.headers {
            let values = headers.entry(*name).or_insert_with(|| json!([]));
            values.as_array_mut().unwrap().push(json!(value));
        }
        json!({
            "method": self.method,
            "url": format!("http://{}{}", sidecar.address(), self.target),
            "headers": headers,
            "body": self.body,
        })
    }
}
