//! A bucket of one's own, on the S3 server that `scripts/test-servers` starts.

use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::store::depot::Bucket;

/// The variable that names the server.
const SERVER: &str = "HABIT_TEST_S3";

/// The server's address, `http://host:port`.
#[must_use]
pub fn server() -> String {
    std::env::var(SERVER).unwrap_or_else(|_| {
        panic!("{SERVER} names no S3 server: run tests with `make test`, or as `scripts/test-servers cargo test …`")
    })
}

/// The options with which that server is reached, at this address.
#[must_use]
pub fn options(endpoint: &str) -> Vec<(String, String)> {
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        own("endpoint", endpoint),
        own("region", "us-east-1"),
        own("access_key_id", "test"),
        own("secret_access_key", "test"),
    ]
}

/// Makes an empty bucket; its address. It goes with the server, which keeps everything in memory.
pub async fn bucket_url() -> String {
    let name = format!("habit-{}", Uuid::now_v7().simple());
    let server = server();
    let host = server.strip_prefix("http://").unwrap_or(&server);
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("PUT /{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    format!("s3://{name}")
}

/// All that is kept in a bucket of this address: the names and the bytes of its objects.
pub async fn contents(url: &str) -> Vec<(String, Vec<u8>)> {
    let mut builder = AmazonS3Builder::new().with_url(url).with_allow_http(true);
    for (name, value) in options(&server()) {
        builder = builder.with_config(name.parse().unwrap(), value);
    }
    let store = builder.build().unwrap();
    let objects: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    let mut contents = Vec::with_capacity(objects.len());
    for object in objects {
        let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        contents.push((object.location.to_string(), bytes.to_vec()));
    }
    contents
}

/// An empty bucket.
pub async fn bucket() -> Bucket {
    Bucket::new(&bucket_url().await, options(&server())).unwrap()
}
