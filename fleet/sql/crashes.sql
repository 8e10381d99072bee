-- Crashes by version, signal and component, those with a core, the nodes that had one, and beside them the node-days of the
-- version: nodes that asked for it on the day.
WITH
    node_days AS (
        SELECT day, version, count(DISTINCT node_id) AS node_days
        FROM checks
        GROUP BY day, version
    ),
    counted AS (
        SELECT
            day,
            regexp_replace(release, '^ondat@', '') AS version,
            component,
            signal,
            count(*) AS crashes,
            sum(CASE WHEN core_dump = 'true' THEN 1 ELSE 0 END) AS cores,
            count(DISTINCT node_id) AS nodes
        FROM crashes
        GROUP BY 1, 2, 3, 4
    )
SELECT
    counted.day AS day,
    counted.version AS version,
    counted.component AS component,
    counted.signal AS signal,
    counted.crashes AS crashes,
    counted.cores AS cores,
    counted.nodes AS nodes,
    node_days.node_days AS node_days
FROM counted LEFT JOIN node_days ON counted.day = node_days.day AND counted.version = node_days.version
ORDER BY 1, 2 NULLS LAST, 3 NULLS LAST, 4 NULLS LAST
