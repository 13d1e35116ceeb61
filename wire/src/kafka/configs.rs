//! DescribeConfigs (key 32), AlterConfigs (33), IncrementalAlterConfigs (44) and CreatePartitions (37).

use super::message;

message! {
    struct DescribeConfigsRequest flexible 4 {
        resources: Vec<DescribeConfigsResource> [0..],
        include_synonyms: bool [1..],
        include_documentation: bool [3..],
    }

    struct DescribeConfigsResource {
        resource_type: i8 [0..],
        resource_name: String [0..],
        /// All when null.
        keys: Option<Vec<String>> [0..],
    }

    struct DescribeConfigsResponse flexible 4 {
        throttle_ms: i32 [0..],
        results: Vec<DescribeConfigsResult> [0..],
    }

    struct DescribeConfigsResult {
        error: i16 [0..],
        error_message: Option<String> [0..],
        resource_type: i8 [0..],
        resource_name: String [0..],
        configs: Vec<DescribedConfig> [0..],
    }

    struct DescribedConfig {
        name: String [0..],
        value: Option<String> [0..],
        read_only: bool [0..],
        source: i8 [1..] = -1,
        is_sensitive: bool [0..],
        synonyms: Vec<ConfigSynonym> [1..],
        config_type: i8 [3..],
        documentation: Option<String> [3..],
    }

    struct ConfigSynonym {
        name: String [1..],
        value: Option<String> [1..],
        source: i8 [1..],
    }

    struct AlterConfigsRequest flexible 2 {
        resources: Vec<AlterConfigsResource> [0..],
        validate_only: bool [0..],
    }

    struct AlterConfigsResource {
        resource_type: i8 [0..],
        resource_name: String [0..],
        configs: Vec<AlterableConfig> [0..],
    }

    struct AlterableConfig {
        name: String [0..],
        value: Option<String> [0..],
    }

    struct AlterConfigsResponse flexible 2 {
        throttle_ms: i32 [0..],
        responses: Vec<AlteredResource> [0..],
    }

    struct AlteredResource {
        error: i16 [0..],
        error_message: Option<String> [0..],
        resource_type: i8 [0..],
        resource_name: String [0..],
    }

    struct IncrementalAlterConfigsRequest flexible 1 {
        resources: Vec<IncrementalResource> [0..],
        validate_only: bool [0..],
    }

    struct IncrementalResource {
        resource_type: i8 [0..],
        resource_name: String [0..],
        configs: Vec<IncrementalConfig> [0..],
    }

    struct IncrementalConfig {
        name: String [0..],
        /// SET 0, DELETE 1, APPEND 2, SUBTRACT 3 (KIP-339).
        operation: i8 [0..],
        value: Option<String> [0..],
    }

    struct IncrementalAlterConfigsResponse flexible 1 {
        throttle_ms: i32 [0..],
        responses: Vec<AlteredResource> [0..],
    }

    struct CreatePartitionsRequest flexible 2 {
        topics: Vec<CreatePartitionsTopic> [0..],
        timeout_ms: i32 [0..],
        validate_only: bool [0..],
    }

    struct CreatePartitionsTopic {
        name: String [0..],
        count: i32 [0..],
        assignments: Option<Vec<CreatePartitionsAssignment>> [0..],
    }

    struct CreatePartitionsAssignment {
        broker_ids: Vec<i32> [0..],
    }

    struct CreatePartitionsResponse flexible 2 {
        throttle_ms: i32 [0..],
        results: Vec<CreatePartitionsResult> [0..],
    }

    struct CreatePartitionsResult {
        name: String [0..],
        error: i16 [0..],
        error_message: Option<String> [0..],
    }
}
