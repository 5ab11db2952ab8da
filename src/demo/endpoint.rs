//! The endpoints of the sample hub, as the hub counts them and the view lists them.

/// One kind of question the hub answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A list with `max-age`, an `ETag` and 304 answers.
    Catalog,
    /// Different every time, without cache headers.
    Time,
    /// Takes 300 ms, without cache headers.
    Slow,
    /// Another answer for every user.
    Me,
    /// Fails for every third call.
    Flaky,
    /// A chat completion in one piece.
    Chat,
    /// A chat completion as an event stream.
    ChatStream,
    /// Embeddings.
    Embeddings,
    /// The list of models, or one of them.
    Models,
    /// The WebSocket echo.
    Echo,
}

impl Endpoint {
    /// Every endpoint, in the order of the view.
    pub const ALL: [Self; 10] = [
        Self::Catalog,
        Self::Time,
        Self::Slow,
        Self::Me,
        Self::Flaky,
        Self::Chat,
        Self::ChatStream,
        Self::Embeddings,
        Self::Models,
        Self::Echo,
    ];

    /// The name in the view.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Catalog => "GET  /api/models-catalog",
            Self::Time => "GET  /api/time",
            Self::Slow => "GET  /api/slow",
            Self::Me => "GET  /api/me",
            Self::Flaky => "GET  /api/flaky",
            Self::Chat => "POST /v1/chat/completions",
            Self::ChatStream => "     ... stream: true",
            Self::Embeddings => "POST /v1/embeddings",
            Self::Models => "GET  /v1/models",
            Self::Echo => "WS   /ws/echo",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_complete_and_in_the_order_of_the_counters() {
        for (index, endpoint) in Endpoint::ALL.into_iter().enumerate() {
            assert_eq!(endpoint as usize, index, "{endpoint:?}");
        }
        assert_eq!(Endpoint::Echo as usize + 1, Endpoint::ALL.len());
    }
}
