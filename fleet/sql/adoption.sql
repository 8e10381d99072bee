-- Version adoption: nodes that asked for their version by day, and beside them nodes in reports. The gap is how many report.
SELECT day, version, sum(n_asked) AS asked, sum(n_reported) AS reported
FROM (
    SELECT day, version, count(DISTINCT node_id) AS n_asked, 0 AS n_reported
    FROM checks
    GROUP BY day, version
    UNION ALL
    SELECT day, node_storageos_version AS version, 0 AS n_asked, count(*) AS n_reported
    FROM nodes
    GROUP BY day, node_storageos_version
) AS seen
GROUP BY 1, 2
ORDER BY 1, 2 NULLS LAST
