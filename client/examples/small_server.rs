//! A small MCP server on stdin and stdout, for the tests of the child process transport.
//!
//! `chatty` prints what is no message in between, `stubborn` lives on after its input has ended.

#[path = "../tests/wire/server.rs"]
mod server;

use rmcp::ServiceExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let asks = |word: &str| std::env::args().any(|arg| arg == word);
    if asks("chatty") {
        println!("listening on standard input\n\n{{\"level\":\"info\"}}\n{{ no json\n[1, 2]");
    }
    let served = serve().await;
    if asks("stubborn") {
        std::future::pending::<()>().await;
    }
    served
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    server::Small
        .serve(rmcp::transport::stdio())
        .await?
        .waiting()
        .await?;
    Ok(())
}
