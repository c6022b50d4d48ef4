# shellcheck shell=bash
# What an hour costs: by the configuration, the AWS price list, or the table below.

# On-demand prices of Linux instances in us-east-1, in US dollars an hour. Other regions cost up to a half more.
readonly PRICES_FROM=2025-11 PRICES_REGION=us-east-1
readonly PRICES="
t3.micro 0.0104
t3.small 0.0208
t3.medium 0.0416
t3.large 0.0832
t4g.micro 0.0084
t4g.small 0.0168
t4g.medium 0.0336
t4g.large 0.0672
c5.large 0.085
c5.xlarge 0.17
c6i.large 0.085
c6i.xlarge 0.17
c6g.large 0.068
c6g.xlarge 0.136
c7i.large 0.08925
c7i.xlarge 0.1785
c7i.2xlarge 0.357
c7g.large 0.0725
c7g.xlarge 0.145
c7g.2xlarge 0.29
m5.large 0.096
m6i.large 0.096
m7i.large 0.1008
m7i.xlarge 0.2016
m7g.large 0.0816
r7g.large 0.1071
"

# A public IPv4 address, and 8 GB of gp3 (0.08 a month and GB), in US dollars an hour; the same two for each instance.
readonly ADDRESS_PRICE=0.005 VOLUME_PRICE=0.0009

# Print the price of an instance type and where it is from, or nothing.
price_of() {
  local type=$1 configured=$2 found
  if [[ -n $configured ]]; then
    echo "$configured by the configuration"
    return
  fi
  found=$(listed_price "$type")
  if [[ -n $found ]]; then
    echo "$found by the AWS price list of today"
    return
  fi
  awk -v type="$type" -v where="by the table of $PRICES_FROM for $PRICES_REGION (elsewhere up to a half more)" '$1 == type { print $2, where }' <<< "$PRICES"
}

# Ask the AWS price list, which is in us-east-1 for all regions. Print nothing if it does not answer.
listed_price() {
  local type=$1 product
  product=$(AWS_MAX_ATTEMPTS=1 aws pricing get-products --region us-east-1 --output text \
    --cli-connect-timeout 5 --cli-read-timeout 15 --service-code AmazonEC2 --max-items 1 --query 'PriceList[0]' \
    --filters "$(term instanceType "$type")" "$(term regionCode "$REGION")" "$(term operatingSystem Linux)" \
    "$(term preInstalledSw NA)" "$(term tenancy Shared)" "$(term capacitystatus Used)" 2> /dev/null) || return 0
  sed -nE 's/.*"[$]([0-9.]+) per On Demand Linux [^"]*".*/\1/p' <<< "$product" | head -n 1
}

term() { echo "Type=TERM_MATCH,Field=$1,Value=$2"; }

# Say what an hour of both instances costs. Sets hourly_price, empty if it is not known.
say_prices() {
  local server client
  server=$(price_of "$SERVER_TYPE" "$SERVER_PRICE")
  client=$server
  [[ $CLIENT_TYPE$CLIENT_PRICE == "$SERVER_TYPE$SERVER_PRICE" ]] || client=$(price_of "$CLIENT_TYPE" "$CLIENT_PRICE")
  hourly_price=
  say_price server "$SERVER_TYPE" "$server" SERVER_PRICE
  say_price client "$CLIENT_TYPE" "$client" CLIENT_PRICE
  say "  two public addresses and two disks of 8 GB: \$$(add "$ADDRESS_PRICE" "$VOLUME_PRICE" "$ADDRESS_PRICE" "$VOLUME_PRICE") an hour"
  [[ -n $server && -n $client ]] || return 0
  hourly_price=$(add "${server%% *}" "${client%% *}" "$ADDRESS_PRICE" "$VOLUME_PRICE" "$ADDRESS_PRICE" "$VOLUME_PRICE")
  say "  together: about \$$hourly_price an hour, \$$(times "$hourly_price" 24) a day, until teardown; traffic to the internet is extra"
}

say_price() {
  local role=$1 type=$2 price=$3 setting=$4
  if [[ -n $price ]]; then
    say "  $role, $type: \$${price%% *} an hour, ${price#* }"
  else
    say "  $role, $type: price unknown; look at https://2.zoppoz.workers.dev:443/https/aws.amazon.com/ec2/pricing/on-demand/, and set $setting"
  fi
}

add() { awk 'BEGIN { for (i = 1; i < ARGC; i++) sum += ARGV[i]; printf "%.4f", sum }' "$@"; }
times() { awk 'BEGIN { printf "%.2f", ARGV[1] * ARGV[2] }' "$@"; }
