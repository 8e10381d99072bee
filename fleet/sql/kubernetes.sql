-- Kubernetes: clusters by distribution, minor version, and whether Kubernetes runs in Kubernetes.
SELECT
    cluster_days.day AS day,
    cluster_days.confirmed AS confirmed,
    reports.k8s_distribution AS distribution,
    regexp_replace(reports.k8s_version, '^v?([0-9]+\.[0-9]+).*$', '\1') AS version,
    reports.k8s_in_k8s AS is_nested,
    count(DISTINCT cluster_days.cluster) AS clusters
FROM reports JOIN cluster_days ON reports.report_id = cluster_days.report_id
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 3 NULLS LAST, 4 NULLS LAST, 5 NULLS LAST
