//! A TCP proxy that counts bytes, terminates TLS, and can be cut.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};
use tokio_rustls::TlsAcceptor;

pub struct Proxy {
    pub address: SocketAddr,
    /// The certificate of a proxy that speaks TLS.
    pub pem: String,
    bytes: Arc<AtomicU64>,
    cut: watch::Sender<bool>,
    reset: Arc<Notify>,
}

impl Proxy {
    pub async fn plain(to: SocketAddr) -> Self {
        Self::start(to, None, String::new()).await
    }

    pub async fn tls(to: SocketAddr) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .unwrap();
        Self::start(to, Some(TlsAcceptor::from(Arc::new(config))), cert.pem()).await
    }

    async fn start(to: SocketAddr, tls: Option<TlsAcceptor>, pem: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = Arc::new(AtomicU64::new(0));
        let (cut, is_cut) = watch::channel(false);
        let counted = bytes.clone();
        let reset = Arc::new(Notify::new());
        let resets = reset.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    // The listener is gone with the connections.
                    () = wait(is_cut.clone()) => return,
                };
                let (tls, counted, is_cut) = (tls.clone(), counted.clone(), is_cut.clone());
                let reset = resets.clone();
                let relayed = async move {
                    let server = TcpStream::connect(to).await.unwrap();
                    match tls {
                        None => relay(client, server, counted, is_cut).await,
                        Some(tls) => {
                            // Fails where the client does not trust the certificate.
                            if let Ok(client) = tls.accept(client).await {
                                relay(client, server, counted, is_cut).await;
                            }
                        }
                    }
                };
                tokio::spawn(async move {
                    tokio::select! {
                        () = relayed => {}
                        () = reset.notified() => {}
                    }
                });
            }
        });
        Self {
            address,
            pem,
            bytes,
            cut,
            reset,
        }
    }

    /// What has passed so far, both ways.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Drops every connection, and takes new ones.
    pub fn reset(&self) {
        self.reset.notify_waiters();
    }

    /// Drops every connection and takes no more.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }
}

async fn wait(mut is_cut: watch::Receiver<bool>) {
    if is_cut.wait_for(|cut| *cut).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn relay<C>(
    client: C,
    server: TcpStream,
    bytes: Arc<AtomicU64>,
    is_cut: watch::Receiver<bool>,
) where
    C: AsyncRead + AsyncWrite,
{
    let (client_read, client_write) = split(client);
    let (server_read, server_write) = split(server);
    tokio::select! {
        _ = async { tokio::join!(pump(client_read, server_write, &bytes), pump(server_read, client_write, &bytes)) } => {}
        () = wait(is_cut) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &AtomicU64,
) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        bytes.fetch_add(n as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..n]).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
