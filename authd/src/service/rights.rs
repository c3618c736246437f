//! `doorward.authd.v1.Rights`: for root, who may know what everybody may do.

use doorward_proto::authd::v1::{self as wire, rights_server::Rights};
use tonic::{Request, Response, Status};

use super::{Shared, access, dialect};
use crate::{account::Username, error::AuthError, rights::Explained};

/// The longest subject that is explained.
const SUBJECT_MAX: usize = 1_024;

/// The service.
#[derive(Debug, Clone)]
pub struct RightsService(pub Shared);

#[tonic::async_trait]
impl Rights for RightsService {
    async fn explain(
        &self,
        request: Request<wire::ExplainRequest>,
    ) -> Result<Response<wire::Explanation>, Status> {
        let wire::ExplainRequest { user, subject, dialect: number } = request.into_inner();
        let dialect = dialect(number)?;
        if subject.len() > SUBJECT_MAX {
            return Err(AuthError::BadRequest("subject: longer than 1024 bytes").into());
        }
        let user = Username::parse(user).ok_or(AuthError::NoSuchUser)?;
        let explained = self.0.holders.explain(user, &subject, dialect).await?;
        let Explained { access: class, given, allowed, decided_by } = explained;
        Ok(Response::new(wire::Explanation {
            access: access(class).into(),
            entries: given
                .into_iter()
                .map(|given| wire::GivenEntry { entry: given.entry, origin: given.origin })
                .collect(),
            allowed,
            decided_by: decided_by.and_then(|place| u32::try_from(place).ok()),
        }))
    }
}
