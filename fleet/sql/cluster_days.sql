-- Which cluster a report is from, and whether that is confirmed on its day: on 7 of the last 30 days it has reported, and it
-- has 10 GiB. A report holds no cluster id. Its cluster is the one that any of its nodes has named in a version query or a
-- crash report, else the smallest id of its nodes, else the report is a cluster by itself.
WITH
    named_nodes AS (
        SELECT node_id, min(cluster_id) AS cluster
        FROM (
            SELECT node_id, cluster_id FROM checks
            UNION ALL
            SELECT node_id, cluster_id FROM crashes
        ) AS seen
        WHERE node_id IS NOT NULL AND cluster_id IS NOT NULL
        GROUP BY node_id
    ),
    named_reports AS (
        SELECT nodes.report_id AS report_id, min(named_nodes.cluster) AS cluster
        FROM nodes JOIN named_nodes ON nodes.node_id = named_nodes.node_id
        GROUP BY nodes.report_id
    ),
    of_reports AS (
        SELECT
            reports.report_id AS report_id,
            reports.day AS day,
            coalesce(named_reports.cluster, reports.cluster_key, reports.report_id) AS cluster,
            coalesce(reports.sum_total, 0) >= 10737418240 AS is_large
        FROM reports LEFT JOIN named_reports ON reports.report_id = named_reports.report_id
    ),
    days AS (
        SELECT cluster, day, date_diff('day', DATE '1970-01-01', day) AS number
        FROM of_reports
        GROUP BY cluster, day
    ),
    counted AS (
        SELECT
            cluster,
            day,
            count(*) OVER (PARTITION BY cluster ORDER BY number RANGE BETWEEN 29 PRECEDING AND CURRENT ROW) AS days_30
        FROM days
    )
SELECT
    of_reports.report_id AS report_id,
    of_reports.day AS day,
    of_reports.cluster AS cluster,
    of_reports.is_large AND counted.days_30 >= 7 AS confirmed
FROM of_reports JOIN counted ON of_reports.cluster = counted.cluster AND of_reports.day = counted.day
