-- Stuck upgrades: clusters whose nodes have had different versions on more than three days of the last seven, by day.
WITH
    mixed AS (
        SELECT
            cluster_days.cluster AS cluster,
            cluster_days.day AS day,
            max(CASE WHEN cluster_days.confirmed THEN 1 ELSE 0 END) AS confirmed,
            max(CASE WHEN reports.version_min <> reports.version_max THEN 1 ELSE 0 END) AS is_mixed
        FROM reports JOIN cluster_days ON reports.report_id = cluster_days.report_id
        GROUP BY cluster_days.cluster, cluster_days.day
    ),
    counted AS (
        SELECT
            day,
            confirmed,
            sum(is_mixed) OVER (
                PARTITION BY cluster ORDER BY date_diff('day', DATE '1970-01-01', day)
                RANGE BETWEEN 6 PRECEDING AND CURRENT ROW
            ) AS mixed_days,
            is_mixed
        FROM mixed
    )
SELECT
    day,
    confirmed = 1 AS confirmed,
    count(*) AS clusters,
    sum(is_mixed) AS mixed,
    sum(CASE WHEN is_mixed = 1 AND mixed_days > 3 THEN 1 ELSE 0 END) AS stuck
FROM counted
GROUP BY 1, 2
ORDER BY 1, 2
