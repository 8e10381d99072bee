module proxy_oracle

go 1.19
