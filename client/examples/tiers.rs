//! A resource and the names of the tools, from the nearest tier that has them.

use erlmcp_shm_client::{Config, HybridClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1);
    let config = Config::load(file.as_deref().unwrap_or("config/config.toml"))?;
    let client = HybridClient::from_config(&config)?;
    let answer = client.read_resource("file:///motd").await?;
    println!("{:?}: {:?}", answer.tier(), answer.contents);
    for tool in client.list_tools().await?.iter() {
        println!("{}", tool.name);
    }
    client.close().await;
    Ok(())
}
