//! One server lists what all of them hold.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tollgate::{
    cli::client::Client,
    proto::{
        ExtendAuthorizationRequest, ListReservationsRequest, ListReservationsResponse,
        authorize_response::Decision, extend_authorization_response::Decision as Extension,
    },
};

use crate::harness::{
    postgres::fresh_database,
    server::TestServer,
    wire::Wire,
    world::{World, all_roles, authorize, request},
};

async fn list(client: &Client, account: &str, size: u32, token: &str) -> ListReservationsResponse {
    let request = ListReservationsRequest {
        account: account.to_owned(),
        page_size: size,
        page_token: token.to_owned(),
    };
    client.authorization().list_reservations(request).await.unwrap().into_inner()
}

/// All pages; each row as authorization and server.
async fn all(client: &Client, account: &str, size: u32) -> Vec<(String, String)> {
    let (mut rows, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(client, account, size, &token).await;
        assert_eq!(page.missing_instance_ids, Vec::<String>::new());
        assert!(page.reservations.len() <= size as usize);
        rows.extend(page.reservations.into_iter().map(|r| (r.authorization_id, r.instance_id)));
        token = page.next_page_token;
        if token.is_empty() {
            return rows;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_what_all_servers_hold_page_by_page() {
    let database = fresh_database().await;
    let world = World::on(TestServer::start_on(database.clone()).await).await;
    let other = TestServer::start_on(database.clone()).await;
    let clients = [world.client.clone(), all_roles(&other).await];
    let mut expected = Vec::new();
    let mut first = None;
    for account in ["acme", "beta"] {
        world.startup(account, "10").await;
        let key = world.key(account).await;
        for number in 0..7 {
            let client = &clients[number % 2];
            let Decision::Grant(grant) = authorize(client, &request(&key, 10)).await.unwrap()
            else {
                panic!("denied")
            };
            expected.push(grant.authorization_id.clone());
            first.get_or_insert(grant);
        }
    }
    for client in &clients {
        for size in [3, 5, 100] {
            let rows = all(client, "", size).await;
            let ids: Vec<&String> = rows.iter().map(|(id, _)| id).collect();
            assert_eq!(ids, expected.iter().collect::<Vec<_>>(), "pages of {size}");
            let servers: BTreeSet<&String> = rows.iter().map(|(_, server)| server).collect();
            assert_eq!(servers.len(), 2);
        }
        assert_eq!(all(client, "beta", 3).await.len(), 7);
    }

    // What was extended elsewhere is held twice; a page that ends between the two loses neither.
    let extend = ExtendAuthorizationRequest {
        token: first.unwrap().token,
        max_output_tokens: 20,
        allow_reduced_output: false,
    };
    let answer = clients[1].authorization().extend_authorization(extend).await.unwrap();
    assert!(matches!(answer.into_inner().decision, Some(Extension::Grant(_))));
    for size in [1, 3] {
        let rows = all(&clients[0], "", size).await;
        let of_first = rows.iter().filter(|(id, _)| *id == expected[0]).count();
        assert_eq!((rows.len(), of_first), (15, 2), "{rows:?}");
    }
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM reservation_answers")
        .fetch_one(&world.server.pool())
        .await
        .unwrap();
    assert_eq!(left, 0, "answers were left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_named() {
    let database = fresh_database().await;
    let world = World::on(TestServer::start_on(database.clone()).await).await;
    world.startup("acme", "10").await;
    let key = world.key("acme").await;
    world.granted(&request(&key, 10)).await;
    let begun = Instant::now();
    assert_eq!(all(&world.client, "", 100).await.len(), 1);
    assert!(begun.elapsed() < Duration::from_millis(500), "alone, there is nobody to wait for");

    let wire = Wire::to(database).await;
    let silent = TestServer::start_on(wire.options.clone()).await;
    let client = all_roles(&silent).await;
    let Decision::Grant(_) = authorize(&client, &request(&key, 10)).await.unwrap() else {
        panic!("denied")
    };
    let both = list(&world.client, "", 100, "").await;
    assert_eq!((both.reservations.len(), both.missing_instance_ids.len()), (2, 0));
    let own = list(&world.client, "", 1, "").await.reservations.remove(0).instance_id;
    let other = both.reservations.into_iter().map(|r| r.instance_id).find(|id| *id != own);

    wire.cut();
    let page = list(&world.client, "acme", 100, "").await;
    assert_eq!(page.reservations.len(), 1);
    assert_eq!(page.missing_instance_ids, [other.unwrap()]);
}
