//! Making a connection, and hearing what the server says unasked.

use futures_util::future::BoxFuture;
use rmcp::model::{
    ClientConfig, Implementation, ProtocolVersion, ResourceUpdatedNotificationParam,
};
use rmcp::service::{
    ClientLifecycleMode, NotificationContext, RunningService, serve_client_with_lifecycle,
};
use rmcp::transport::IntoTransport;
use rmcp::{ClientHandler, RoleClient};
use std::sync::Arc;
use std::time::Duration;

/// Any error of a transport.
pub type ConnectError = Box<dyn std::error::Error + Send + Sync>;

/// A connection that was negotiated.
pub type Session = RunningService<RoleClient, Listener>;

/// A way to reach the server: what each transport is to the client.
///
/// ```
/// use erlmcp_shm_client::{Connect, ConnectError, Session, Listener, Revision};
/// use futures_util::future::BoxFuture;
/// use std::time::Duration;
///
/// /// A server at the other end of a unix socket.
/// struct UnixSocket(std::path::PathBuf);
///
/// impl Connect for UnixSocket {
///     fn connect(&self, listener: Listener, within: Duration) -> BoxFuture<'_, Result<Session, ConnectError>> {
///         Box::pin(async move {
///             let dial = || async { Ok(tokio::net::UnixStream::connect(&self.0).await?) };
///             Revision::Auto.negotiate(listener, within, dial).await
///         })
///     }
/// }
/// ```
pub trait Connect: Send + Sync + 'static {
    /// Connects and negotiates. Dropped, it leaves nothing behind.
    fn connect(
        &self,
        listener: Listener,
        within: Duration,
    ) -> BoxFuture<'_, Result<Session, ConnectError>>;
}

/// Which of MCP's two ways of starting a conversation to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Revision {
    /// `server/discover` first; a server that does not know it, or does not answer within half of the time, is
    /// dialled again and sent `initialize`.
    #[default]
    Auto,
    /// The stateless revision, 2026-07-28.
    Stateless,
    /// `initialize`, up to 2025-11-25.
    Initialize,
}

impl Revision {
    /// Dials, and starts the conversation.
    ///
    /// # Errors
    /// What the dialling says, or why no conversation came about within the time.
    pub async fn negotiate<T, E, A, F>(
        self,
        listener: Listener,
        within: Duration,
        dial: impl Fn() -> F + Send + Sync,
    ) -> Result<Session, ConnectError>
    where
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
        F: Future<Output = Result<T, ConnectError>> + Send,
    {
        let newest = || vec![ProtocolVersion::V_2026_07_28];
        let (first, second) = match self {
            Revision::Initialize => (ClientLifecycleMode::Initialize, None),
            Revision::Stateless => {
                let preferred_versions = newest();
                (ClientLifecycleMode::Discover { preferred_versions }, None)
            }
            Revision::Auto => {
                let both = ClientLifecycleMode::Auto {
                    preferred_versions: newest(),
                    legacy_version: Some(ProtocolVersion::V_2025_11_25),
                };
                (both, Some(ClientLifecycleMode::Initialize))
            }
        };
        let Some(second) = second else {
            return start(first, &listener, within, dial()).await;
        };
        match start(first, &listener, within / 2, dial()).await {
            Ok(connected) => Ok(connected),
            Err(error) => {
                tracing::debug!(%error, "server/discover failed, trying initialize");
                start(second, &listener, within / 2, dial()).await
            }
        }
    }
}

async fn start<T, E, A>(
    mode: ClientLifecycleMode,
    listener: &Listener,
    within: Duration,
    dialled: impl Future<Output = Result<T, ConnectError>>,
) -> Result<Session, ConnectError>
where
    T: IntoTransport<RoleClient, E, A>,
    E: std::error::Error + Send + Sync + 'static,
{
    let serve = async {
        let transport = dialled.await?;
        let served = serve_client_with_lifecycle(listener.clone(), transport, mode);
        Ok::<_, ConnectError>(served.await?)
    };
    match tokio::time::timeout(within, serve).await {
        Ok(result) => result,
        Err(_) => Err(format!("no conversation within {within:?}").into()),
    }
}

/// What a server says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A resource that was subscribed to has changed.
    ResourceUpdated(String),
    /// There are other resources than before.
    ResourcesChanged,
    /// There are other tools than before.
    ToolsChanged,
    /// There are other prompts than before.
    PromptsChanged,
    /// A connection was made or lost: anything may have changed unheard.
    Gap,
}

pub(crate) type Hear = Arc<dyn Fn(Notice) + Send + Sync>;

/// The client's end of a connection: hears notices, and answers no requests.
#[derive(Clone)]
pub struct Listener {
    pub(crate) hear: Hear,
}

impl Listener {
    /// A listener that hands every notice to a function.
    pub fn new(hear: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self {
            hear: Arc::new(hear),
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

impl ClientHandler for Listener {
    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        (self.hear)(Notice::ResourceUpdated(params.uri));
    }

    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {
        (self.hear)(Notice::ResourcesChanged);
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        (self.hear)(Notice::ToolsChanged);
    }

    async fn on_prompt_list_changed(&self, _: NotificationContext<RoleClient>) {
        (self.hear)(Notice::PromptsChanged);
    }

    fn get_info(&self) -> ClientConfig {
        let me = Implementation::new("erlmcp-shm-client", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(Default::default(), me)
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
    }
}
