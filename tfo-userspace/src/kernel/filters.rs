//! Classifiers of traffic control at an interface's ingress: rtnetlink's `RTM_GETTFILTER`.

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::tc::TcAttribute;

use super::link::LinkError;

/// The kinds of the classifiers, such as `bpf` or `flower`, each once. TCX programs are not among them.
///
/// # Errors
///
/// [`LinkError`] where the kernel does not say.
pub async fn at_ingress(index: u32) -> Result<Vec<String>, LinkError> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let filters = handle.traffic_filter(index.cast_signed()).get().ingress();
    let filters: Result<Vec<_>, _> = filters.execute().try_collect().await;
    connection.abort();
    let mut kinds: Vec<String> = filters?
        .into_iter()
        .flat_map(|filter| filter.attributes)
        .filter_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind),
            _ => None,
        })
        .collect();
    kinds.sort();
    kinds.dedup();
    Ok(kinds)
}
