//! What tests need of async-nats and it doesn't have.

use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::daemon::PATIENCE;

/// Returns when the server has done all that it was told by this client, whose own `flush` doesn't wait for it. Whatever somebody
/// else does from here on finds this client's subscriptions.
pub async fn round_trip(client: &async_nats::Client) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let inbox = client.new_inbox();
    let mut sub = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, bytes::Bytes::new()).await?;
    timeout(PATIENCE, sub.next()).await?.ok_or("the subscription has ended")?;
    Ok(())
}
